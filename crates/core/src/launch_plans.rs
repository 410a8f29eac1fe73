//! What a launch plan may say about the inputs of its workflow (spec 08 A17.2, spec 01 §10.1).

use std::collections::BTreeMap;

use flyte_idl::{
    admin::{LaunchPlanMetadata, LaunchPlanSpec, Schedule, schedule::ScheduleExpression},
    core::{Literal, LiteralMap, Parameter, ParameterMap, Variable, VariableMap, parameter},
};

use crate::{
    excerpt::{excerpt, excerpt_or_nil},
    inputs::{self, InputError, inferred, is_datetime, type_of},
    types::castable,
};

/// Why a launch plan is refused. The display text is the answer of the API (INVALID_ARGUMENT).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchPlanError {
    /// A literal or parameter is not one.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Inputs for a workflow that has none.
    #[error("invalid launch plan {kind} inputs, expected none but found {count}")]
    NoInputs {
        /// `default` or `fixed`.
        kind: &'static str,
        /// How many there are.
        count: usize,
    },
    /// An input that the workflow does not have.
    #[error("unexpected {kind}_input {name}")]
    Unexpected {
        /// `default` or `fixed`.
        kind: &'static str,
        /// The name of the input.
        name: String,
    },
    /// An input of another type than the workflow's. For defaults the reference shows the types the wrong way
    /// round.
    #[error("invalid {kind}_input wrong type {name}, expected {expected}, got {actual} instead")]
    WrongType {
        /// `default` or `fixed`.
        kind: &'static str,
        /// The name of the input.
        name: String,
        /// The type that the text calls expected.
        expected: String,
        /// The type that the text calls actual.
        actual: String,
    },
    /// A schedule cannot give a value to a required input.
    #[error(
        "Cannot create a launch plan with a schedule if there is an unbound required input. [{0}] is required"
    )]
    ScheduleWithRequiredInput(String),
    /// The input for the kickoff time does not exist or is fixed.
    #[error(
        "Cannot create a schedule with a KickoffTimeInputArg that does not point to a free input. [{0}] is not free or does not exist."
    )]
    KickoffNotFree(String),
    /// The input for the kickoff time is no datetime.
    #[error("KickoffTimeInputArg must reference a datetime input. [{name}] is a [{actual}]")]
    KickoffType {
        /// The name of the input.
        name: String,
        /// The type that the workflow has for it.
        actual: String,
    },
    /// A launch condition, which this platform does not serve.
    #[error("Launch condition must be empty, found {0}")]
    LaunchCondition(String),
}

/// Checks fixed and default inputs of a plan by themselves, before they are compared with the workflow.
pub fn validate_inputs(spec: &LaunchPlanSpec) -> Result<(), LaunchPlanError> {
    if let Some(fixed) = &spec.fixed_inputs {
        inputs::validate_literals(&fixed.literals, "fixed_inputs")?;
    }
    if let Some(defaults) = &spec.default_inputs {
        inputs::validate_parameters(&defaults.parameters, "default_inputs")?;
    }
    Ok(())
}

/// The inputs that an execution of the plan may or must be given: for each input of the workflow the plan's
/// default, nothing if it is fixed, else a required parameter. This map replaces `spec.default_inputs` and is
/// the closure's `expected_inputs`; it is part of the digest.
pub fn expected_inputs(
    workflow: Option<&VariableMap>,
    fixed: Option<&LiteralMap>,
    defaults: Option<&ParameterMap>,
) -> Result<ParameterMap, LaunchPlanError> {
    let (no_variables, no_literals, no_parameters) =
        (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let workflow = workflow.map_or(&no_variables, |map| &map.variables);
    let fixed = fixed.map_or(&no_literals, |map| &map.literals);
    let defaults = defaults.map_or(&no_parameters, |map| &map.parameters);
    if workflow.is_empty() {
        for (kind, count) in [("default", defaults.len()), ("fixed", fixed.len())] {
            if count > 0 {
                return Err(LaunchPlanError::NoInputs { kind, count });
            }
        }
    }
    check_defaults(workflow, defaults)?;
    check_fixed(workflow, fixed)?;
    let free = workflow
        .iter()
        .filter(|(name, _)| defaults.contains_key(*name) || !fixed.contains_key(*name));
    let parameters = free.map(|(name, variable)| {
        let parameter = defaults
            .get(name)
            .cloned()
            .unwrap_or_else(|| required(variable));
        (name.clone(), parameter)
    });
    Ok(ParameterMap {
        parameters: parameters.collect(),
    })
}

fn required(variable: &Variable) -> Parameter {
    Parameter {
        var: Some(Variable {
            r#type: variable.r#type.clone(),
            description: variable.description.clone(),
            ..Default::default()
        }),
        behavior: Some(parameter::Behavior::Required(true)),
    }
}

fn check_defaults(
    workflow: &BTreeMap<String, Variable>,
    defaults: &BTreeMap<String, Parameter>,
) -> Result<(), LaunchPlanError> {
    for (name, parameter) in defaults {
        let Some(variable) = workflow.get(name) else {
            return Err(LaunchPlanError::Unexpected {
                kind: "default",
                name: name.clone(),
            });
        };
        let given = type_of(parameter).cloned().unwrap_or_default();
        let wanted = variable.r#type.clone().unwrap_or_default();
        if !castable(&given, &wanted) {
            return Err(LaunchPlanError::WrongType {
                kind: "default",
                name: name.clone(),
                expected: excerpt(&given),
                actual: excerpt(&wanted),
            });
        }
    }
    Ok(())
}

fn check_fixed(
    workflow: &BTreeMap<String, Variable>,
    fixed: &BTreeMap<String, Literal>,
) -> Result<(), LaunchPlanError> {
    for (name, literal) in fixed {
        let Some(variable) = workflow.get(name) else {
            return Err(LaunchPlanError::Unexpected {
                kind: "fixed",
                name: name.clone(),
            });
        };
        let given = inferred(name, literal)?;
        let wanted = variable.r#type.clone().unwrap_or_default();
        if !castable(&given, &wanted) {
            return Err(LaunchPlanError::WrongType {
                kind: "fixed",
                name: name.clone(),
                expected: excerpt(&wanted),
                actual: excerpt(&given),
            });
        }
    }
    Ok(())
}

/// Checks that a schedule can start the plan. Answers the cron text that is left to check, if there is one.
pub fn validate_schedule<'a>(
    schedule: Option<&'a Schedule>,
    expected: &ParameterMap,
) -> Result<Option<&'a str>, LaunchPlanError> {
    let Some(schedule) = schedule.filter(|schedule| schedule.schedule_expression.is_some()) else {
        return Ok(None);
    };
    let cron = match &schedule.schedule_expression {
        #[expect(deprecated, reason = "older clients send it")]
        Some(ScheduleExpression::CronExpression(text)) if text.is_empty() => return Ok(None),
        #[expect(deprecated, reason = "older clients send it")]
        Some(ScheduleExpression::CronExpression(text)) => text,
        Some(ScheduleExpression::CronSchedule(cron)) => &cron.schedule,
        Some(ScheduleExpression::Rate(_)) | None => "",
    };
    let kickoff = &schedule.kickoff_time_input_arg;
    for (name, parameter) in &expected.parameters {
        let is_required = matches!(
            parameter.behavior,
            Some(parameter::Behavior::Required(true))
        );
        if is_required && name != kickoff {
            return Err(LaunchPlanError::ScheduleWithRequiredInput(name.clone()));
        }
    }
    if !kickoff.is_empty() {
        let Some(parameter) = expected.parameters.get(kickoff) else {
            return Err(LaunchPlanError::KickoffNotFree(kickoff.clone()));
        };
        let actual = type_of(parameter);
        if !actual.is_some_and(is_datetime) {
            return Err(LaunchPlanError::KickoffType {
                name: kickoff.clone(),
                actual: excerpt_or_nil(actual),
            });
        }
    }
    Ok((!cron.is_empty()).then_some(cron))
}

/// Checks that there are no launch conditions.
pub fn validate_launch_conditions(
    metadata: Option<&LaunchPlanMetadata>,
) -> Result<(), LaunchPlanError> {
    match metadata.and_then(|metadata| metadata.launch_conditions.as_ref()) {
        Some(any) => Err(LaunchPlanError::LaunchCondition(format!(
            "type_url:{:?}",
            any.type_url
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use flyte_idl::{admin::CronSchedule, core::SimpleType};

    use super::*;
    use crate::{
        literals::{integer, string},
        types::simple,
    };

    fn variables(entries: &[(&str, SimpleType)]) -> VariableMap {
        VariableMap {
            variables: entries
                .iter()
                .map(|(name, kind)| {
                    let variable = Variable {
                        r#type: Some(simple(*kind)),
                        description: "d".into(),
                        ..Default::default()
                    };
                    ((*name).to_owned(), variable)
                })
                .collect(),
        }
    }

    fn defaults(entries: &[(&str, SimpleType, Literal)]) -> ParameterMap {
        ParameterMap {
            parameters: entries
                .iter()
                .map(|(name, kind, literal)| {
                    let parameter = Parameter {
                        var: Some(Variable {
                            r#type: Some(simple(*kind)),
                            ..Default::default()
                        }),
                        behavior: Some(parameter::Behavior::Default(literal.clone())),
                    };
                    ((*name).to_owned(), parameter)
                })
                .collect(),
        }
    }

    fn fixed(entries: &[(&str, Literal)]) -> LiteralMap {
        LiteralMap {
            literals: entries
                .iter()
                .map(|(name, literal)| ((*name).to_owned(), literal.clone()))
                .collect(),
        }
    }

    #[test]
    fn fixed_inputs_are_not_expected_and_free_ones_are_required() {
        let workflow = variables(&[
            ("a", SimpleType::Integer),
            ("b", SimpleType::Integer),
            ("c", SimpleType::String),
        ]);
        let expected = expected_inputs(
            Some(&workflow),
            Some(&fixed(&[("b", integer(1))])),
            Some(&defaults(&[("a", SimpleType::Integer, integer(2))])),
        )
        .unwrap();
        assert_eq!(expected.parameters.keys().collect::<Vec<_>>(), ["a", "c"]);
        let required = &expected.parameters["c"];
        assert_eq!(required.behavior, Some(parameter::Behavior::Required(true)));
        assert_eq!(required.var.as_ref().unwrap().description, "d");
    }

    #[test]
    fn bad_plans_are_refused_with_the_recorded_texts() {
        let workflow = variables(&[("n", SimpleType::Integer)]);
        let none = variables(&[]);
        for (workflow, fixed, defaults, text) in [
            (
                &none,
                fixed(&[]),
                defaults(&[("x", SimpleType::Integer, integer(1))]),
                "invalid launch plan default inputs, expected none but found 1",
            ),
            (
                &none,
                fixed(&[("x", integer(1))]),
                defaults(&[]),
                "invalid launch plan fixed inputs, expected none but found 1",
            ),
            (
                &workflow,
                fixed(&[("zz", integer(1))]),
                defaults(&[]),
                "unexpected fixed_input zz",
            ),
            (
                &workflow,
                fixed(&[("n", string("x"))]),
                defaults(&[]),
                "invalid fixed_input wrong type n, expected simple:INTEGER, got simple:STRING instead",
            ),
            (
                &workflow,
                fixed(&[]),
                defaults(&[("zz", SimpleType::Integer, integer(1))]),
                "unexpected default_input zz",
            ),
            (
                &workflow,
                fixed(&[]),
                defaults(&[("n", SimpleType::String, string("x"))]),
                "invalid default_input wrong type n, expected simple:STRING, got simple:INTEGER instead",
            ),
        ] {
            let error = expected_inputs(Some(workflow), Some(&fixed), Some(&defaults)).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn schedules_need_free_inputs() {
        let schedule = |kickoff: &str| Schedule {
            kickoff_time_input_arg: kickoff.into(),
            schedule_expression: Some(ScheduleExpression::CronSchedule(CronSchedule {
                schedule: "@daily".into(),
                ..Default::default()
            })),
        };
        let expected =
            |kind| expected_inputs(Some(&variables(&[("n", kind)])), None, None).unwrap();
        for (kickoff, kind, answer) in [
            ("n", SimpleType::Datetime, Ok(Some("@daily"))),
            (
                "",
                SimpleType::Integer,
                Err(
                    "Cannot create a launch plan with a schedule if there is an unbound required input. [n] is required",
                ),
            ),
            (
                "n",
                SimpleType::Integer,
                Err(
                    "KickoffTimeInputArg must reference a datetime input. [n] is a [simple:INTEGER]",
                ),
            ),
        ] {
            let schedule = schedule(kickoff);
            let found = validate_schedule(Some(&schedule), &expected(kind));
            assert_eq!(
                found.map_err(|error| error.to_string()),
                answer.map_err(str::to_owned)
            );
        }
        let none = expected_inputs(None, None, None).unwrap();
        let error = validate_schedule(Some(&schedule("k")), &none).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Cannot create a schedule with a KickoffTimeInputArg that does not point to a free input. [k] is not free or does not exist."
        );
    }
}
