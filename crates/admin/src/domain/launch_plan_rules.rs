//! Checks of launch plans in the order in which they are answered (spec 01 §10.1 steps 5-10).

use flyte_core::launch_plans;
use flyte_idl::{
    admin::{LaunchPlanSpec, Notification, notification, schedule::ScheduleExpression},
    core::{ParameterMap, TypedInterface},
};

use super::cron;
use crate::{
    error::{Error, Result},
    records::WorkflowPhase,
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
