//! Launch plans: their checks in the order in which they are answered (spec 01 §10.1 steps 5-10), their record and their
//! schedule.

use flyte_core::{digest, identifiers::EntityId, launch_plans};
use flyte_idl::{
    admin::{self, LaunchPlanSpec, Notification, notification, schedule::ScheduleExpression},
    core::{ParameterMap, TypedInterface, VariableMap},
    stored::Stored,
};

use super::cron;
use crate::{
    error::{Error, Result},
    records::{
        self, LaunchPlan, LaunchPlanState, Schedule, ScheduleType, WorkflowPhase, WorkflowRow,
    },
};

/// Checks inputs and schedule of a plan against the workflow's interface and answers the expected inputs.
pub(crate) fn expected_inputs(
    spec: &LaunchPlanSpec,
    interface: &TypedInterface,
) -> Result<ParameterMap> {
    launch_plans::validate_inputs(spec)?;
    let expected = launch_plans::expected_inputs(
        interface.inputs.as_ref(),
        spec.fixed_inputs.as_ref(),
        spec.default_inputs.as_ref(),
    )?;
    let schedule = spec
        .entity_metadata
        .as_ref()
        .and_then(|metadata| metadata.schedule.as_ref());
    if let Some(text) = launch_plans::validate_schedule(schedule, &expected)? {
        cron::check(text)
            .map_err(|rule| Error::Invalid(format!("Invalid cron expression: {rule}")))?;
    }
    Ok(expected)
}

/// The schedule of a plan, unless it is an empty cron text.
pub(crate) fn schedule_expression(spec: &LaunchPlanSpec) -> Option<&ScheduleExpression> {
    let schedule = spec.entity_metadata.as_ref()?.schedule.as_ref()?;
    schedule
        .schedule_expression
        .as_ref()
        .filter(|expression| match expression {
            ScheduleExpression::CronExpression(text) => !text.is_empty(),
            ScheduleExpression::CronSchedule(_) | ScheduleExpression::Rate(_) => true,
        })
}

/// Each notification has a type, recipients, and phases in which an execution ends.
pub(crate) fn notifications(notifications: &[Notification]) -> Result<()> {
    for notification in notifications {
        let recipients = match &notification.r#type {
            Some(notification::Type::Email(email)) => &email.recipients_email,
            Some(notification::Type::PagerDuty(pager)) => &pager.recipients_email,
            Some(notification::Type::Slack(slack)) => &slack.recipients_email,
            None => return Err(Error::invalid("invalid value for notification type")),
        };
        if recipients.is_empty() {
            return Err(Error::missing("recipients"));
        }
        if recipients.iter().any(String::is_empty) {
            return Err(Error::missing("recipient"));
        }
        let ends = |phase: &i32| WorkflowPhase::from(*phase).is_terminal();
        if notification.phases.is_empty() || !notification.phases.iter().all(ends) {
            return Err(Error::invalid("invalid value for phase"));
        }
    }
    Ok(())
}

/// There are none on this platform.
pub(crate) fn launch_conditions(spec: &LaunchPlanSpec) -> Result<()> {
    Ok(launch_plans::validate_launch_conditions(
        spec.entity_metadata.as_ref(),
    )?)
}

/// The record of a plan whose inputs have been checked.
pub(crate) fn assemble(
    id: EntityId,
    mut spec: admin::LaunchPlanSpec,
    expected_inputs: ParameterMap,
    expected_outputs: Option<VariableMap>,
    workflow_row: Option<WorkflowRow>,
) -> Result<LaunchPlan> {
    spec.default_inputs = Some(expected_inputs.clone());
    spec.fixed_inputs.get_or_insert_default();
    let closure = admin::LaunchPlanClosure {
        expected_inputs: Some(expected_inputs),
        expected_outputs,
        ..Default::default()
    };
    let hashed = admin::LaunchPlan {
        id: Some(id.to_proto()),
        spec: Some(spec.clone()),
        closure: Some(closure.clone()),
    };
    let digest = digest::of_message(&hashed).map_err(|error| {
        Error::Invalid(format!(
            "failed to hash launch plan [{id}] to digest with err {error}"
        ))
    })?;
    let schedule_type = match schedule_expression(&spec) {
        None => ScheduleType::None,
        Some(ScheduleExpression::Rate(_)) => ScheduleType::Rate,
        Some(_cron) => ScheduleType::Cron,
    };
    Ok(LaunchPlan {
        row: None,
        id,
        spec: Stored::new(spec),
        workflow_row,
        closure: Stored::new(closure),
        state: LaunchPlanState::Inactive,
        digest: digest.0.to_vec(),
        schedule_type,
        created_at: None,
        updated_at: None,
    })
}

/// The schedule row of a plan, if it has a schedule.
pub(crate) fn schedule(plan: &LaunchPlan) -> Result<Option<Schedule>> {
    let Some(expression) = schedule_expression(plan.spec.get()) else {
        return Ok(None);
    };
    let expression = match expression {
        ScheduleExpression::CronSchedule(cron) => {
            records::ScheduleExpression::Cron(cron.schedule.clone())
        }
        ScheduleExpression::Rate(rate) => records::ScheduleExpression::Rate {
            value: rate.value,
            unit: rate.unit.into(),
        },
        ScheduleExpression::CronExpression(cron) => {
            return Err(Error::Internal(format!(
                "failed adding schedule for unknown schedule expression type {cron}"
            )));
        }
    };
    let metadata = plan.spec.get().entity_metadata.as_ref();
    Ok(Some(Schedule {
        launch_plan: plan.id.clone(),
        expression,
        kickoff_input: metadata
            .and_then(|metadata| metadata.schedule.as_ref())
            .map(|schedule| schedule.kickoff_time_input_arg.clone())
            .unwrap_or_default(),
    }))
}
