//! Under which name Go counts the calls of each method (spec 07 §3.2).

/// Each method of AdminService and the name of its scope. Go counts two that nothing can call.
pub(super) const ADMIN: &[(&str, &str)] = &[
    ("flyteidl.service.AdminService/CreateTask", "create_task"),
    ("flyteidl.service.AdminService/GetTask", "get_task"),
    ("flyteidl.service.AdminService/ListTaskIds", "list_task_ids"),
    ("flyteidl.service.AdminService/ListTasks", "list_task"),
    (
        "flyteidl.service.AdminService/CreateWorkflow",
        "create_workflow",
    ),
    ("flyteidl.service.AdminService/GetWorkflow", "get_workflow"),
    (
        "flyteidl.service.AdminService/ListWorkflowIds",
        "list_workflow_ids",
    ),
    (
        "flyteidl.service.AdminService/ListWorkflows",
        "list_workflow",
    ),
    (
        "flyteidl.service.AdminService/CreateLaunchPlan",
        "create_launch_plan",
    ),
    (
        "flyteidl.service.AdminService/GetLaunchPlan",
        "get_launch_plan",
    ),
    (
        "flyteidl.service.AdminService/GetActiveLaunchPlan",
        "get_active_launch_plan",
    ),
    (
        "flyteidl.service.AdminService/ListActiveLaunchPlans",
        "list_active_launch_plans",
    ),
    (
        "flyteidl.service.AdminService/ListLaunchPlanIds",
        "list_launch_plan_ids",
    ),
    (
        "flyteidl.service.AdminService/ListLaunchPlans",
        "list_launch_plan",
    ),
    (
        "flyteidl.service.AdminService/UpdateLaunchPlan",
        "update_launch_plan",
    ),
    (
        "flyteidl.service.AdminService/CreateExecution",
        "create_execution",
    ),
    (
        "flyteidl.service.AdminService/RelaunchExecution",
        "relaunch_execution",
    ),
    (
        "flyteidl.service.AdminService/RecoverExecution",
        "recover_execution",
    ),
    (
        "flyteidl.service.AdminService/GetExecution",
        "get_execution",
    ),
    (
        "flyteidl.service.AdminService/UpdateExecution",
        "update_execution",
    ),
    (
        "flyteidl.service.AdminService/GetExecutionData",
        "get_execution_data",
    ),
    (
        "flyteidl.service.AdminService/GetExecutionMetrics",
        "get_execution_metrics",
    ),
    (
        "flyteidl.service.AdminService/ListExecutions",
        "list_execution",
    ),
    (
        "flyteidl.service.AdminService/TerminateExecution",
        "terminate_execution",
    ),
    (
        "flyteidl.service.AdminService/GetNodeExecution",
        "get_node_execution",
    ),
    (
        "flyteidl.service.AdminService/GetDynamicNodeWorkflow",
        "get_dynamic_node_workflow",
    ),
    (
        "flyteidl.service.AdminService/ListNodeExecutions",
        "list_node_execution",
    ),
    (
        "flyteidl.service.AdminService/ListNodeExecutionsForTask",
        "list_children_node_executions",
    ),
    (
        "flyteidl.service.AdminService/GetNodeExecutionData",
        "get_node_execution_data",
    ),
    (
        "flyteidl.service.AdminService/RegisterProject",
        "register_project",
    ),
    (
        "flyteidl.service.AdminService/UpdateProject",
        "update_project",
    ),
    ("flyteidl.service.AdminService/GetProject", "get_project"),
    (
        "flyteidl.service.AdminService/ListProjects",
        "list_projects",
    ),
    ("flyteidl.service.AdminService/GetDomains", "get_domain"),
    (
        "flyteidl.service.AdminService/CreateWorkflowEvent",
        "create_execution_event",
    ),
    (
        "flyteidl.service.AdminService/CreateNodeEvent",
        "create_node_execution_event",
    ),
    (
        "flyteidl.service.AdminService/CreateTaskEvent",
        "create_task_execution_event",
    ),
    (
        "flyteidl.service.AdminService/GetTaskExecution",
        "get_task_execution",
    ),
    (
        "flyteidl.service.AdminService/ListTaskExecutions",
        "list_task_execution",
    ),
    (
        "flyteidl.service.AdminService/GetTaskExecutionData",
        "get_task_execution_data",
    ),
    (
        "flyteidl.service.AdminService/UpdateProjectDomainAttributes",
        "update_project_domain_attrs",
    ),
    (
        "flyteidl.service.AdminService/GetProjectDomainAttributes",
        "get_project_domain_attrs",
    ),
    (
        "flyteidl.service.AdminService/DeleteProjectDomainAttributes",
        "delete_project_domain_attrs",
    ),
    (
        "flyteidl.service.AdminService/UpdateProjectAttributes",
        "update_project_attrs",
    ),
    (
        "flyteidl.service.AdminService/GetProjectAttributes",
        "get_project_attrs",
    ),
    (
        "flyteidl.service.AdminService/DeleteProjectAttributes",
        "delete_project_attrs",
    ),
    (
        "flyteidl.service.AdminService/UpdateWorkflowAttributes",
        "update_workflow_attrs",
    ),
    (
        "flyteidl.service.AdminService/GetWorkflowAttributes",
        "get_workflow_attrs",
    ),
    (
        "flyteidl.service.AdminService/DeleteWorkflowAttributes",
        "delete_workflow_attrs",
    ),
    (
        "flyteidl.service.AdminService/ListMatchableAttributes",
        "list_matchable_resource_attrs",
    ),
    (
        "flyteidl.service.AdminService/ListNamedEntities",
        "list_named_entities",
    ),
    (
        "flyteidl.service.AdminService/GetNamedEntity",
        "get_named_entity",
    ),
    (
        "flyteidl.service.AdminService/UpdateNamedEntity",
        "update_named_entity",
    ),
    (
        "flyteidl.service.AdminService/GetDescriptionEntity",
        "get_description_entity",
    ),
    (
        "flyteidl.service.AdminService/ListDescriptionEntities",
        "list_description_entity",
    ),
    ("", "create_description_entity"),
    ("", "get_node_execution_metrics"),
];

/// Each method of SignalService. Go counts setting a signal with listing them.
pub(super) const SIGNAL: &[(&str, &str)] = &[
    (
        "flyteidl.service.SignalService/GetOrCreateSignal",
        "create_signal",
    ),
    ("flyteidl.service.SignalService/ListSignals", "get_signal"),
    ("flyteidl.service.SignalService/SetSignal", "get_signal"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_endpoint_has_the_name_that_go_counts_it_under() {
        let recorded: BTreeSet<&str> = include_str!("../../tests/data/metrics.tsv")
            .lines()
            .filter_map(|line| {
                let (name, _type) = line.split_once('\t')?;
                name.strip_prefix("flyte:admin:admin:")?
                    .strip_suffix(":duration_ms")
            })
            .collect();
        let ours: BTreeSet<&str> = ADMIN.iter().map(|(_, name)| *name).collect();
        assert_eq!(ours, recorded);
        let methods: BTreeSet<String> = flyte_idl::descriptors::pool()
            .get_service_by_name("flyteidl.service.AdminService")
            .unwrap()
            .methods()
            .map(|method| format!("flyteidl.service.AdminService/{}", method.name()))
            // Go does not count it.
            .filter(|method| !method.ends_with("/GetVersion"))
            .collect();
        let named: BTreeSet<String> = ADMIN
            .iter()
            .filter(|(method, _)| !method.is_empty())
            .map(|(method, _)| (*method).to_owned())
            .collect();
        assert_eq!(named, methods);
    }
}
