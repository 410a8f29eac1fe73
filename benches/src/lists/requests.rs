//! The lists that the console and flytectl ask for (spec 01 §5.4), and how common what they filter by is.

use flyte_idl::{
    admin::{
        ActiveLaunchPlanListRequest, NamedEntityIdentifier, NamedEntityIdentifierListRequest,
        NamedEntityListRequest, NodeExecutionListRequest, ResourceListRequest, Sort,
        TaskExecutionListRequest, sort::Direction,
    },
    core::{NodeExecutionIdentifier, ResourceType, WorkflowExecutionIdentifier},
    service::admin_service_client::AdminServiceClient,
};
use tonic::{Status, transport::Channel};

use super::fill::{self, DOMAIN, PROJECT};

/// Rows of a page.
const PAGE: u32 = 100;

/// A request for a page.
#[derive(Clone, Debug)]
pub(super) enum List {
    Executions(ResourceListRequest),
    Workflows(ResourceListRequest),
    Tasks(ResourceListRequest),
    LaunchPlans(ResourceListRequest),
    ActiveLaunchPlans(ActiveLaunchPlanListRequest),
    Names(NamedEntityListRequest),
    WorkflowIds(NamedEntityIdentifierListRequest),
    TaskIds(NamedEntityIdentifierListRequest),
    LaunchPlanIds(NamedEntityIdentifierListRequest),
    Nodes(NodeExecutionListRequest),
    TaskExecutions(TaskExecutionListRequest),
}

impl List {
    /// Asks for it and says how many elements came.
    pub(super) async fn ask(
        self,
        mut client: AdminServiceClient<Channel>,
    ) -> Result<usize, Status> {
        macro_rules! count {
            ($call:ident, $request:expr, $elements:ident) => {
                client.$call($request).await?.into_inner().$elements.len()
            };
        }
        Ok(match self {
            Self::Executions(request) => count!(list_executions, request, executions),
            Self::Workflows(request) => count!(list_workflows, request, workflows),
            Self::Tasks(request) => count!(list_tasks, request, tasks),
            Self::LaunchPlans(request) => count!(list_launch_plans, request, launch_plans),
            Self::ActiveLaunchPlans(request) => {
                count!(list_active_launch_plans, request, launch_plans)
            }
            Self::Names(request) => count!(list_named_entities, request, entities),
            Self::WorkflowIds(request) => count!(list_workflow_ids, request, entities),
            Self::TaskIds(request) => count!(list_task_ids, request, entities),
            Self::LaunchPlanIds(request) => count!(list_launch_plan_ids, request, entities),
            Self::Nodes(request) => count!(list_node_executions, request, node_executions),
            Self::TaskExecutions(request) => {
                count!(list_task_executions, request, task_executions)
            }
        })
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the field of every request is optional"
)]
fn by(key: &str, direction: Direction) -> Option<Sort> {
    Some(Sort {
        key: key.to_owned(),
        direction: direction.into(),
    })
}

fn newest() -> Option<Sort> {
    by("created_at", Direction::Descending)
}

fn resources(name: &str, filters: &str, sort_by: Option<Sort>) -> ResourceListRequest {
    ResourceListRequest {
        id: Some(NamedEntityIdentifier {
            project: PROJECT.to_owned(),
            domain: DOMAIN.to_owned(),
            name: name.to_owned(),
            ..NamedEntityIdentifier::default()
        }),
        limit: PAGE,
        filters: filters.to_owned(),
        sort_by,
        ..ResourceListRequest::default()
    }
}

fn executions(filters: &str) -> List {
    List::Executions(resources("", filters, newest()))
}

fn names(kind: ResourceType, filters: &str, sort_by: Option<Sort>) -> List {
    List::Names(NamedEntityListRequest {
        resource_type: kind.into(),
        project: PROJECT.to_owned(),
        domain: DOMAIN.to_owned(),
        limit: PAGE,
        filters: filters.to_owned(),
        sort_by,
        ..NamedEntityListRequest::default()
    })
}

fn ids(sort_by: Option<Sort>) -> NamedEntityIdentifierListRequest {
    NamedEntityIdentifierListRequest {
        project: PROJECT.to_owned(),
        domain: DOMAIN.to_owned(),
        limit: PAGE,
        sort_by,
        ..NamedEntityIdentifierListRequest::default()
    }
}

fn nodes(parent: &str) -> List {
    List::Nodes(NodeExecutionListRequest {
        workflow_execution_id: Some(large_execution()),
        unique_parent_id: parent.to_owned(),
        limit: PAGE,
        sort_by: by("created_at", Direction::Ascending),
        ..NodeExecutionListRequest::default()
    })
}

fn large_execution() -> WorkflowExecutionIdentifier {
    WorkflowExecutionIdentifier {
        project: PROJECT.to_owned(),
        domain: DOMAIN.to_owned(),
        name: fill::LARGE_EXECUTION.to_owned(),
        ..WorkflowExecutionIdentifier::default()
    }
}

/// Every list with its title, for tables of `rows`.
pub(super) fn all(rows: u32) -> Vec<(&'static str, List)> {
    let (common, rare) = (fill::COMMON, fill::RARE);
    let since = |before: u32| format!("gte(started_at,{})", fill::moment(rows - before));
    let ascending = |key| by(key, Direction::Ascending);
    let descending = |key| by(key, Direction::Descending);
    let deep = ResourceListRequest {
        token: "9900".to_owned(),
        ..resources("", "", newest())
    };
    let one = ResourceListRequest {
        limit: 1,
        ..resources(rare, "", newest())
    };
    vec![
        ("executions, newest first", executions("")),
        ("executions, page 100", List::Executions(deep)),
        (
            "executions, oldest first",
            List::Executions(resources("", "", ascending("created_at"))),
        ),
        (
            "executions, last started first",
            List::Executions(resources("", "", descending("started_at"))),
        ),
        (
            "executions, first started first",
            List::Executions(resources("", "", ascending("started_at"))),
        ),
        (
            "executions that run (1 in 10,000)",
            executions("eq(phase,RUNNING)"),
        ),
        (
            "executions that failed or were aborted (1 in 10)",
            executions("value_in(phase,FAILED;ABORTED)"),
        ),
        (
            "executions aborted or timed out (none)",
            executions("value_in(phase,ABORTED;TIMED_OUT)"),
        ),
        (
            "executions, archived ones (1 in 1,000)",
            executions("eq(state,1)"),
        ),
        (
            "executions of a user (1 in 50)",
            executions("eq(user,user-7)"),
        ),
        (
            "executions of a user (1 in 10,000)",
            executions("eq(user,rare)"),
        ),
        ("executions of a user (none)", executions("eq(user,nobody)")),
        (
            "executions started since an hour ago",
            executions(&since(3_600)),
        ),
        (
            "executions started since 100,000 s ago",
            executions(&since(100_000)),
        ),
        (
            "executions longer than an hour (1 in 10,000)",
            executions("gt(duration,3600)"),
        ),
        (
            "executions longer than a minute (9 in 10)",
            executions("gt(duration,60)"),
        ),
        (
            "executions of a workflow (9 in 10)",
            executions(&format!("eq(workflow.name,{common})")),
        ),
        (
            "executions of a workflow (1 in 10,000)",
            executions(&format!("eq(workflow.name,{rare})")),
        ),
        (
            "executions of a workflow (none)",
            executions("eq(workflow.name,nobody)"),
        ),
        (
            "executions of a workflow that failed",
            executions(&format!(
                "eq(workflow.name,{common})+value_in(phase,FAILED;ABORTED)"
            )),
        ),
        (
            "executions of a launch plan (9 in 10)",
            executions(&format!("eq(launch_plan.name,{common})")),
        ),
        (
            "executions of a launch plan (1 in 10,000)",
            executions(&format!("eq(launch_plan.name,{rare})")),
        ),
        (
            "executions of a version of a workflow",
            executions(&format!(
                "eq(workflow.name,{common})+eq(workflow.version,v1)"
            )),
        ),
        (
            "executions of a task (1 in 100)",
            executions(&format!("eq(task.name,{common})")),
        ),
        (
            "executions with a tag (1 in 10,000)",
            executions("eq(execution_tag.key,rare)"),
        ),
        (
            "executions with a tag (1 in 2)",
            executions("eq(execution_tag.key,common)"),
        ),
        (
            "versions of a workflow, newest first",
            List::Workflows(resources(rare, "", newest())),
        ),
        ("latest version of a workflow", List::Workflows(one.clone())),
        (
            "workflows, newest first",
            List::Workflows(resources("", "", newest())),
        ),
        (
            "versions of a task, newest first",
            List::Tasks(resources(rare, "", newest())),
        ),
        ("latest version of a task", List::Tasks(one.clone())),
        (
            "tasks, newest first",
            List::Tasks(resources("", "", newest())),
        ),
        (
            "versions of a launch plan, newest first",
            List::LaunchPlans(resources(rare, "", newest())),
        ),
        ("latest version of a launch plan", List::LaunchPlans(one)),
        (
            "launch plans, newest first",
            List::LaunchPlans(resources("", "", newest())),
        ),
        (
            "launch plans that are active",
            List::LaunchPlans(resources("", "eq(state,1)", newest())),
        ),
        (
            "launch plans with an active schedule",
            List::LaunchPlans(resources(
                "",
                "eq(state,1)+ne(schedule_type,NONE)",
                newest(),
            )),
        ),
        (
            "launch plans of a workflow",
            List::LaunchPlans(resources(
                "",
                &format!("eq(workflow.name,{rare})"),
                newest(),
            )),
        ),
        (
            "active launch plans",
            List::ActiveLaunchPlans(ActiveLaunchPlanListRequest {
                project: PROJECT.to_owned(),
                domain: DOMAIN.to_owned(),
                limit: PAGE,
                sort_by: newest(),
                ..ActiveLaunchPlanListRequest::default()
            }),
        ),
        (
            "names of workflows",
            names(ResourceType::Workflow, "", None),
        ),
        (
            "names of workflows that are not archived",
            names(ResourceType::Workflow, "eq(state,0)", ascending("name")),
        ),
        (
            "names of workflows with a text",
            names(
                ResourceType::Workflow,
                "eq(state,0)+contains(name,77)",
                ascending("name"),
            ),
        ),
        (
            "names of workflows, last first",
            names(ResourceType::Workflow, "", descending("name")),
        ),
        (
            "names of tasks that are not archived",
            names(ResourceType::Task, "eq(state,0)", ascending("name")),
        ),
        (
            "names of launch plans that are not archived",
            names(ResourceType::LaunchPlan, "eq(state,0)", ascending("name")),
        ),
        ("ids of workflows", List::WorkflowIds(ids(None))),
        ("ids of tasks", List::TaskIds(ids(ascending("name")))),
        ("ids of launch plans", List::LaunchPlanIds(ids(None))),
        ("nodes of an execution with 10,000", nodes("")),
        ("nodes in a node", nodes("n0")),
        (
            "attempts of a node",
            List::TaskExecutions(TaskExecutionListRequest {
                node_execution_id: Some(NodeExecutionIdentifier {
                    node_id: "n7".to_owned(),
                    execution_id: Some(large_execution()),
                }),
                limit: PAGE,
                sort_by: ascending("created_at"),
                ..TaskExecutionListRequest::default()
            }),
        ),
    ]
}
