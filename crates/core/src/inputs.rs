//! Checks of literals and parameters that clients send, and the inputs of an execution (spec 08 A17.1,
//! spec 01 §10.1 and §12.2).
//!
//! All maps are checked in order of names, all entries of them; the reference stops at the first datetime.

use std::collections::BTreeMap;

use flyte_idl::core::{
    Literal, LiteralMap, LiteralType, Parameter, ParameterMap, SimpleType, literal, parameter,
    primitive, scalar,
};
use prost_types::Timestamp;

use crate::{
    excerpt::{excerpt, excerpt_or_nil},
    types::{self, UnknownLiteral, castable},
};

/// Why inputs are refused. The display text is the answer of the API (INVALID_ARGUMENT).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// An entry has an empty name.
    #[error("missing key in {0}")]
    MissingKey(&'static str),
    /// A literal has no value.
    #[error("missing valid literal in {field} {name}")]
    MissingLiteral {
        /// The map, for example `fixed_inputs`.
        field: &'static str,
        /// The key of the entry in that map.
        name: String,
    },
    /// A literal, or a part of it, is of a kind that is not known.
    #[error("Failed to validate literal type for [{name}] with err: {cause}")]
    UnknownLiteral {
        /// The key of the entry in that map.
        name: String,
        /// The reason, which the text has to repeat.
        cause: UnknownLiteral,
    },
    /// A datetime outside the years 1 to 9999, or with impossible nanoseconds.
    #[error("proto: timestamp (seconds:{seconds} nanos:{nanos}) {problem}")]
    Datetime {
        /// Seconds since 1970.
        seconds: i64,
        /// Nanoseconds of the refused timestamp, beside its seconds.
        nanos: i32,
        /// What is wrong.
        problem: &'static str,
    },
    /// An artifact query, which this platform does not serve.
    #[error("artifact mode not enabled but query found {field} {name}")]
    ArtifactQuery {
        /// The field of the request whose map has the entry.
        field: &'static str,
        /// The key of the entry in that map.
        name: String,
    },
    /// A parameter without variable, or a variable without type.
    #[error(
        "The Variable component of the Parameter {name} in {field} either is missing, or has a missing Type"
    )]
    MissingVariable {
        /// The field of the request whose map has the entry.
        field: &'static str,
        /// The key of the entry in that map.
        name: String,
    },
    /// A parameter that is neither optional nor required.
    #[error(
        "Invalid variable {name} in {field} - variable has neither default, nor is required. One must be specified"
    )]
    NoBehavior {
        /// The field of the request whose map has the entry.
        field: &'static str,
        /// The key of the entry in that map.
        name: String,
    },
    /// A default of another type than its parameter. The two words of the text are the wrong way round.
    #[error("Type mismatch for Parameter {name} in {field} has type {declared}, expected {actual}")]
    DefaultType {
        /// The field of the request whose map has the entry.
        field: &'static str,
        /// The key of the entry in that map.
        name: String,
        /// The parameter's type.
        declared: String,
        /// The type of the default.
        actual: String,
    },
    /// A name that is not an input.
    #[error("invalid input {0}")]
    Unexpected(String),
    /// A required input without value.
    #[error("expected_inputs {0} missing")]
    Missing(String),
    /// A value of another type than the input.
    #[error("invalid {name} input wrong type. Expected {expected}, but got {actual}")]
    WrongType {
        /// The key of the entry in that map.
        name: String,
        /// The type that the interface has for it.
        expected: String,
        /// The value's type.
        actual: String,
    },
    /// A fixed input that is also an expected one.
    #[error("fixed_inputs {0} cannot be overridden")]
    FixedOverridden(String),
}

/// Checks the literals of a request: names, values, datetimes. `field` is the map's name in messages.
pub fn validate_literals(
    literals: &BTreeMap<String, Literal>,
    field: &'static str,
) -> Result<(), InputError> {
    for (name, literal) in literals {
        if name.is_empty() {
            return Err(InputError::MissingKey(field));
        }
        if literal.value.is_none() {
            return Err(InputError::MissingLiteral {
                field,
                name: name.clone(),
            });
        }
        validate_datetime(literal)?;
    }
    Ok(())
}

/// Checks the parameters of a request: no artifact queries, a type, a default of that type or `required`.
pub fn validate_parameters(
    parameters: &BTreeMap<String, Parameter>,
    field: &'static str,
) -> Result<(), InputError> {
    for (name, parameter) in parameters {
        if matches!(
            parameter.behavior,
            Some(parameter::Behavior::ArtifactQuery(_))
        ) {
            return Err(InputError::ArtifactQuery {
                field,
                name: name.clone(),
            });
        }
    }
    for (name, parameter) in parameters {
        if name.is_empty() {
            return Err(InputError::MissingKey(field));
        }
        let Some(declared) = type_of(parameter) else {
            return Err(InputError::MissingVariable {
                field,
                name: name.clone(),
            });
        };
        match &parameter.behavior {
            Some(parameter::Behavior::Default(default)) => {
                let actual = inferred(name, default)?;
                if !castable(&actual, declared) {
                    return Err(InputError::DefaultType {
                        field,
                        name: name.clone(),
                        declared: excerpt(declared),
                        actual: excerpt(&actual),
                    });
                }
                validate_datetime(default)?;
            }
            Some(parameter::Behavior::Required(true)) => {}
            _ => {
                return Err(InputError::NoBehavior {
                    field,
                    name: name.clone(),
                });
            }
        }
    }
    Ok(())
}

/// The inputs of an execution: those that were given, defaults of the others, and the plan's fixed ones.
///
/// Unknown names are reported before missing and mistyped ones. A default may be an empty literal where the
/// parameter has an artifact query.
pub fn execution_inputs(
    given: Option<&LiteralMap>,
    fixed: Option<&LiteralMap>,
    expected: Option<&ParameterMap>,
) -> Result<LiteralMap, InputError> {
    let no_parameters = BTreeMap::new();
    let expected = expected.map_or(&no_parameters, |expected| &expected.parameters);
    let mut inputs = given
        .map(|given| given.literals.clone())
        .unwrap_or_default();
    if let Some(name) = inputs.keys().find(|name| !expected.contains_key(*name)) {
        return Err(InputError::Unexpected(name.clone()));
    }
    for (name, parameter) in expected {
        if let Some(literal) = inputs.get(name) {
            let actual = inferred(name, literal)?;
            let declared = type_of(parameter);
            if !castable(&actual, declared.unwrap_or(&LiteralType::default())) {
                return Err(InputError::WrongType {
                    name: name.clone(),
                    expected: excerpt_or_nil(declared),
                    actual: excerpt(&actual),
                });
            }
        } else {
            let default = match &parameter.behavior {
                Some(parameter::Behavior::Required(true)) => {
                    return Err(InputError::Missing(name.clone()));
                }
                Some(parameter::Behavior::Default(default)) => default.clone(),
                _ => Literal::default(),
            };
            inputs.insert(name.clone(), default);
        }
    }
    for (name, literal) in fixed.iter().flat_map(|fixed| &fixed.literals) {
        if inputs.insert(name.clone(), literal.clone()).is_some() {
            return Err(InputError::FixedOverridden(name.clone()));
        }
    }
    Ok(LiteralMap { literals: inputs })
}

/// The type of a literal, or the error that names its entry.
pub(crate) fn inferred(name: &str, literal: &Literal) -> Result<LiteralType, InputError> {
    types::of_literal(literal).map_err(|cause| InputError::UnknownLiteral {
        name: name.to_owned(),
        cause,
    })
}

pub(crate) fn type_of(parameter: &Parameter) -> Option<&LiteralType> {
    parameter.var.as_ref()?.r#type.as_ref()
}

/// Whether a type is DATETIME.
pub(crate) fn is_datetime(literal_type: &LiteralType) -> bool {
    types::is_simple(literal_type, SimpleType::Datetime)
}

fn validate_datetime(literal: &Literal) -> Result<(), InputError> {
    let Some(Timestamp { seconds, nanos }) = datetime(literal) else {
        return Ok(());
    };
    let problem = if *seconds < -62_135_596_800 {
        "before 0001-01-01"
    } else if *seconds > 253_402_300_799 {
        "after 9999-12-31"
    } else if !(0..1_000_000_000).contains(nanos) {
        "has out-of-range nanos"
    } else {
        return Ok(());
    };
    Err(InputError::Datetime {
        seconds: *seconds,
        nanos: *nanos,
        problem,
    })
}

fn datetime(literal: &Literal) -> Option<&Timestamp> {
    let Some(literal::Value::Scalar(scalar)) = &literal.value else {
        return None;
    };
    let Some(scalar::Value::Primitive(primitive)) = &scalar.value else {
        return None;
    };
    match &primitive.value {
        Some(primitive::Value::Datetime(time)) => Some(time),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use flyte_idl::core::Variable;

    use super::*;
    use crate::literals::{boolean, datetime, integer};

    fn parameter(simple: SimpleType, behavior: Option<parameter::Behavior>) -> Parameter {
        Parameter {
            var: Some(Variable {
                r#type: Some(types::simple(simple)),
                ..Default::default()
            }),
            behavior,
        }
    }

    fn literals(entries: &[(&str, Literal)]) -> LiteralMap {
        LiteralMap {
            literals: entries
                .iter()
                .map(|(name, literal)| ((*name).to_owned(), literal.clone()))
                .collect(),
        }
    }

    fn expected() -> ParameterMap {
        let required = Some(parameter::Behavior::Required(true));
        let default = Some(parameter::Behavior::Default(integer(7)));
        ParameterMap {
            parameters: BTreeMap::from([
                ("n".to_owned(), parameter(SimpleType::Integer, required)),
                ("d".to_owned(), parameter(SimpleType::Integer, default)),
            ]),
        }
    }

    #[test]
    fn given_default_and_fixed_inputs_are_merged() {
        let given = literals(&[("n", integer(1))]);
        let fixed = literals(&[("f", integer(9))]);
        let merged = execution_inputs(Some(&given), Some(&fixed), Some(&expected())).unwrap();
        assert_eq!(
            merged,
            literals(&[("n", integer(1)), ("d", integer(7)), ("f", integer(9))])
        );
    }

    #[test]
    fn bad_inputs_are_refused_with_the_recorded_texts() {
        let fixed = literals(&[("d", integer(9))]);
        for (given, fixed, text) in [
            (literals(&[]), None, "expected_inputs n missing"),
            (literals(&[("q", integer(1))]), None, "invalid input q"),
            (
                literals(&[("n", boolean(true))]),
                None,
                "invalid n input wrong type. Expected simple:INTEGER, but got simple:BOOLEAN",
            ),
            (
                literals(&[("n", Literal::default())]),
                None,
                "Failed to validate literal type for [n] with err: got unknown literal type: [<nil>].\nSuggested solution: Please update all your Flyte deployment images to the latest version and try again",
            ),
            (
                literals(&[("n", integer(1))]),
                Some(&fixed),
                "fixed_inputs d cannot be overridden",
            ),
        ] {
            let error = execution_inputs(Some(&given), fixed, Some(&expected())).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn every_literal_and_parameter_is_checked() {
        let late = datetime(Timestamp {
            seconds: 253_402_300_800,
            nanos: 0,
        });
        let good = datetime(Timestamp::default());
        for (entries, text) in [
            (literals(&[("", integer(1))]), "missing key in inputs"),
            (
                literals(&[("a", Literal::default())]),
                "missing valid literal in inputs a",
            ),
            (
                literals(&[("a", good), ("b", late)]),
                "proto: timestamp (seconds:253402300800 nanos:0) after 9999-12-31",
            ),
        ] {
            let error = validate_literals(&entries.literals, "inputs").unwrap_err();
            assert_eq!(error.to_string(), text);
        }
        let query = Some(parameter::Behavior::ArtifactQuery(
            flyte_idl::core::ArtifactQuery::default(),
        ));
        let mistyped = Some(parameter::Behavior::Default(boolean(true)));
        for (parameter, text) in [
            (
                parameter(SimpleType::Integer, query),
                "artifact mode not enabled but query found default_inputs p",
            ),
            (
                Parameter::default(),
                "The Variable component of the Parameter p in default_inputs either is missing, or has a missing Type",
            ),
            (
                parameter(SimpleType::Integer, None),
                "Invalid variable p in default_inputs - variable has neither default, nor is required. One must be specified",
            ),
            (
                parameter(SimpleType::Integer, mistyped),
                "Type mismatch for Parameter p in default_inputs has type simple:INTEGER, expected simple:BOOLEAN",
            ),
        ] {
            let parameters = BTreeMap::from([("p".to_owned(), parameter)]);
            let error = validate_parameters(&parameters, "default_inputs").unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }
}
