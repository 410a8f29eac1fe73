//! Keys that say how a pod is made (spec 05 §6, §18).

use std::collections::BTreeMap;

use flyte_core::identifiers::ExecutionId;
use flyte_crd::execution_config::TaskResources;
use flyte_idl::core::{
    Container, DataLoadingConfig, ExtendedResources, GpuAccelerator, Identifier, Resources,
    SecurityContext, TaskTemplate, TypedInterface, Variable, VariableMap,
    gpu_accelerator::PartitionSizeValue,
    resources::{ResourceEntry, ResourceName},
    task_template::Target,
};
use flyte_plugins::{
    Plugin, TaskContext,
    pod::{self, TemplateName},
};
use flyte_propeller::cli::EngineConfig;
use k8s_openapi::{
    api::core::v1::ResourceRequirements,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::OwnerReference},
};
use serde_json::{Value, json};

use super::configured;

/// The task whose pod is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Plain,
    /// It may run on a machine that can be taken away.
    Interruptible,
    /// It asks for an accelerator of this partition.
    Accelerated(Partition),
    /// Its input and its output are files.
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Partition {
    Whole,
    Part,
}

/// A key, what it is given, the task, where to look, and what is there.
struct Row {
    key: &'static str,
    value: Value,
    task: Task,
    look: fn(&Value) -> Value,
    expected: Value,
}

/// The rows, and beside them the list of the keys that they and the tests below set.
macro_rules! rows {
    ($($key:literal = $value:tt, $task:expr, $look:expr => $expected:tt;)*) => {
        pub(super) const KEYS: &[&str] = &[$($key,)* "plugins.k8s.default-pod-template-name"];

        fn rows() -> Vec<Row> {
            vec![$(Row {
                key: $key,
                value: json!($value),
                task: $task,
                look: $look,
                expected: json!($expected),
            }),*]
        }
    };
}

/// What the pod requires of nodes.
fn requirements(pod: &Value) -> Value {
    pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"][0]
        ["matchExpressions"]
        .clone()
}

fn tolerations(pod: &Value) -> Value {
    pod["spec"]["tolerations"].clone()
}

fn container(pod: &Value) -> &Value {
    &pod["spec"]["containers"][0]
}

/// The containers of copilot: the one that takes outputs away, and the one that brings inputs.
fn uploader(pod: &Value) -> &Value {
    &pod["spec"]["initContainers"][0]
}

fn downloader(pod: &Value) -> &Value {
    &pod["spec"]["initContainers"][1]
}

fn variable(pod: &Value, name: &str) -> Value {
    let mut variables = container(pod)["env"].as_array().unwrap().iter();
    variables
        .find(|variable| variable["name"] == name)
        .map_or(Value::Null, |variable| variable["value"].clone())
}

rows! {
    "plugins.k8s.inject-finalizer" = true, Task::Plain,
        |pod| pod["metadata"]["finalizers"].clone() => ["flyte.org/finalizer-k8s"];
    "plugins.k8s.default-annotations" = { "a": "b" }, Task::Plain,
        |pod| pod["metadata"]["annotations"]["a"].clone() => "b";
    "plugins.k8s.default-labels" = { "a": "b" }, Task::Plain,
        |pod| pod["metadata"]["labels"]["a"].clone() => "b";
    "plugins.k8s.default-env-vars" = [{ "A": "b" }], Task::Plain,
        |pod| variable(pod, "A") => "b";
    "plugins.k8s.default-env-vars-from-env" = [{ "A": "OF_THE_ENGINE" }], Task::Plain,
        |pod| variable(pod, "A") => "e";
    "plugins.k8s.default-env-from-configmaps" = ["m"], Task::Plain,
        |pod| container(pod)["envFrom"].clone() => [{ "configMapRef": { "name": "m", "optional": true } }];
    "plugins.k8s.default-env-from-secrets" = ["s"], Task::Plain,
        |pod| container(pod)["envFrom"].clone() => [{ "secretRef": { "name": "s", "optional": true } }];
    "plugins.k8s.default-tolerations" = [{ "key": "t", "operator": "Exists" }], Task::Plain,
        tolerations => [{ "key": "t", "operator": "Exists" }];
    "plugins.k8s.default-node-selector" = { "disk": "ssd" }, Task::Plain,
        |pod| pod["spec"]["nodeSelector"].clone() => { "disk": "ssd" };
    "plugins.k8s.default-affinity" = { "podAffinity": {} }, Task::Plain,
        |pod| pod["spec"]["affinity"].clone() => { "podAffinity": {} };
    "plugins.k8s.scheduler-name" = "s", Task::Plain,
        |pod| pod["spec"]["schedulerName"].clone() => "s";
    "plugins.k8s.interruptible-tolerations" = [{ "key": "spot" }], Task::Interruptible,
        tolerations => [{ "key": "spot" }];
    "plugins.k8s.interruptible-node-selector" = { "spot": "yes" }, Task::Interruptible,
        |pod| pod["spec"]["nodeSelector"].clone() => { "spot": "yes" };
    "plugins.k8s.interruptible-node-selector-requirement" = { "key": "spot", "operator": "Exists" }, Task::Interruptible,
        requirements => [{ "key": "spot", "operator": "Exists" }];
    "plugins.k8s.non-interruptible-node-selector-requirement" = { "key": "spot", "operator": "DoesNotExist" }, Task::Plain,
        requirements => [{ "key": "spot", "operator": "DoesNotExist" }];
    "plugins.k8s.resource-tolerations" = { "cpu": [{ "key": "c" }] }, Task::Plain,
        tolerations => [{ "key": "c" }];
    "plugins.k8s.add-tolerations-for-extended-resources" = ["nvidia.com/gpu"], Task::Accelerated(Partition::Part),
        |pod| tolerations(pod)[0].clone() => { "key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule" };
    "plugins.k8s.image-pull-policy" = "Always", Task::Plain,
        |pod| container(pod)["imagePullPolicy"].clone() => "Always";
    "plugins.k8s.gpu-resource-name" = "amd.com/gpu", Task::Accelerated(Partition::Whole),
        |pod| container(pod)["resources"]["limits"]["amd.com/gpu"].clone() => "1";
    "plugins.k8s.gpu-device-node-label" = "device", Task::Accelerated(Partition::Whole),
        |pod| requirements(pod)[0].clone() => { "key": "device", "operator": "In", "values": ["a100"] };
    "plugins.k8s.gpu-partition-size-node-label" = "size", Task::Accelerated(Partition::Part),
        |pod| requirements(pod)[1].clone() => { "key": "size", "operator": "In", "values": ["1g.5gb"] };
    "plugins.k8s.gpu-unpartitioned-node-selector-requirement" = { "key": "whole", "operator": "Exists" },
        Task::Accelerated(Partition::Whole),
        |pod| requirements(pod)[1].clone() => { "key": "whole", "operator": "Exists" };
    "plugins.k8s.gpu-unpartitioned-toleration" = { "key": "whole" }, Task::Accelerated(Partition::Whole),
        |pod| tolerations(pod)[1].clone() => { "key": "whole" };
    "plugins.k8s.default-pod-security-context" = { "runAsUser": 1000 }, Task::Plain,
        |pod| pod["spec"]["securityContext"].clone() => { "runAsUser": 1000 };
    "plugins.k8s.default-security-context" = { "allowPrivilegeEscalation": false }, Task::Plain,
        |pod| container(pod)["securityContext"].clone() => { "allowPrivilegeEscalation": false };
    "plugins.k8s.enable-host-networking-pod" = true, Task::Plain,
        |pod| pod["spec"]["hostNetwork"].clone() => true;
    "plugins.k8s.default-pod-dns-config" = { "searches": ["x.example"] }, Task::Plain,
        |pod| pod["spec"]["dnsConfig"].clone() => { "searches": ["x.example"] };
    "plugins.k8s.co-pilot.name" = "data-", Task::Raw,
        |pod| uploader(pod)["name"].clone() => "data-uploader";
    "plugins.k8s.co-pilot.image" = "ours:1", Task::Raw,
        |pod| downloader(pod)["image"].clone() => "ours:1";
    "plugins.k8s.co-pilot.default-input-path" = "/in", Task::Raw,
        |pod| container(pod)["volumeMounts"][0]["mountPath"].clone() => "/in";
    "plugins.k8s.co-pilot.default-output-path" = "/out", Task::Raw,
        |pod| container(pod)["volumeMounts"][1]["mountPath"].clone() => "/out";
    "plugins.k8s.co-pilot.input-vol-name" = "in", Task::Raw,
        |pod| pod["spec"]["volumes"][0]["name"].clone() => "in";
    "plugins.k8s.co-pilot.output-vol-name" = "out", Task::Raw,
        |pod| pod["spec"]["volumes"][1]["name"].clone() => "out";
    "plugins.k8s.co-pilot.cpu" = 2, Task::Raw,
        |pod| uploader(pod)["resources"]["limits"]["cpu"].clone() => "2";
    "plugins.k8s.co-pilot.memory" = "1Gi", Task::Raw,
        |pod| uploader(pod)["resources"]["limits"]["memory"].clone() => "1Gi";
    "plugins.k8s.co-pilot.timeout" = "90m", Task::Raw,
        |pod| json!([pod["spec"]["terminationGracePeriodSeconds"], uploader(pod)["args"][2]]) => [5400, "1h30m0s"];
    "plugins.k8s.co-pilot.credentials" = "environment", Task::Raw,
        |pod| json!(uploader(pod)["command"].to_string().contains("secret-key")) => false;
}

/// What a test of pods and their logs needs of an attempt.
pub(super) struct Attempt {
    template: TaskTemplate,
    execution: ExecutionId,
    extended: Option<ExtendedResources>,
    interruptible: bool,
    none: BTreeMap<String, String>,
    resources: ResourceRequirements,
    platform: TaskResources,
    security_context: SecurityContext,
}

impl Attempt {
    fn new(task: Task) -> Self {
        let partition = match task {
            Task::Accelerated(partition) => Some(partition),
            Task::Plain | Task::Interruptible | Task::Raw => None,
        };
        let wanted = |name: ResourceName, value: &str| ResourceEntry {
            name: name.into(),
            value: value.to_owned(),
        };
        let requests = vec![wanted(ResourceName::Cpu, "1")];
        // As nodes override it; what a task itself asks for is always NVIDIA's, as in the reference.
        let accelerators: BTreeMap<_, _> = partition
            .map(|_| ("gpu".to_owned(), Quantity("1".to_owned())))
            .into_iter()
            .collect();
        let variables = || VariableMap {
            variables: BTreeMap::from([("v".to_owned(), Variable::default())]),
        };
        Self {
            template: TaskTemplate {
                id: Some(Identifier {
                    name: "task".into(),
                    ..Identifier::default()
                }),
                r#type: "container".into(),
                interface: (task == Task::Raw).then(|| TypedInterface {
                    inputs: Some(variables()),
                    outputs: Some(variables()),
                }),
                target: Some(Target::Container(Container {
                    image: "i".into(),
                    resources: Some(Resources {
                        limits: requests.clone(),
                        requests,
                    }),
                    data_config: (task == Task::Raw).then(|| DataLoadingConfig {
                        enabled: true,
                        ..DataLoadingConfig::default()
                    }),
                    ..Container::default()
                })),
                ..TaskTemplate::default()
            },
            execution: ExecutionId::new("project", "development", "run").unwrap(),
            extended: partition.map(|partition| ExtendedResources {
                gpu_accelerator: Some(GpuAccelerator {
                    device: "a100".into(),
                    partition_size_value: Some(match partition {
                        Partition::Whole => PartitionSizeValue::Unpartitioned(true),
                        Partition::Part => PartitionSizeValue::PartitionSize("1g.5gb".into()),
                    }),
                }),
                ..ExtendedResources::default()
            }),
            interruptible: task == Task::Interruptible,
            none: BTreeMap::new(),
            resources: ResourceRequirements {
                limits: Some(accelerators.clone()),
                requests: Some(accelerators),
                ..ResourceRequirements::default()
            },
            platform: TaskResources::default(),
            security_context: SecurityContext::default(),
        }
    }

    /// A task that asks for links of this type.
    pub(super) fn linking(link_type: &str) -> Self {
        let mut attempt = Self::new(Task::Plain);
        let config = &mut attempt.template.config;
        config.insert("link_type".into(), link_type.into());
        config.insert("port".into(), "80".into());
        attempt
    }

    pub(super) fn context(&self) -> TaskContext<'_> {
        TaskContext {
            template: &self.template,
            execution: &self.execution,
            workflow: "project:development:wf",
            node_id: "n0",
            unique_node_id: "n0",
            attempt: 0,
            generated_name: "run-n0-0",
            namespace: "project-development",
            owner: OwnerReference::default(),
            labels: &self.none,
            annotations: &self.none,
            inputs: String::new(),
            output_folder: String::new(),
            raw_output: String::new(),
            checkpoints: String::new(),
            previous_checkpoints: String::new(),
            task_template: String::new(),
            resources: &self.resources,
            extended_resources: self.extended.as_ref(),
            container_image: "",
            pod_template: None,
            platform: &self.platform,
            environment: &self.none,
            interruptible: self.interruptible,
            service_account: "",
            security_context: &self.security_context,
            console_url: "",
        }
    }
}

fn pod_of(task: Task, config: &EngineConfig) -> Value {
    let attempt = Attempt::new(task);
    let context = attempt.context();
    let pod = pod::build(
        &context,
        Plugin::Container,
        pod::Supplies::default(),
        &config.plugins,
    );
    serde_json::to_value(pod.unwrap()).unwrap()
}

#[test]
fn each_key_is_seen_in_the_pod() {
    let default = configured(&[]);
    for Row {
        key,
        value,
        task,
        look,
        expected,
    } in rows()
    {
        let pod = pod_of(task, &configured(&[(key, value)]));
        assert_eq!(look(&pod), expected, "{key}: {pod}");
        let pod = pod_of(task, &default);
        assert_ne!(look(&pod), expected, "{key} is what it is without the key");
    }
}

#[test]
fn the_template_of_tasks_that_name_none() {
    let attempt = Attempt::new(Task::Plain);
    let name = |config: &EngineConfig| {
        pod::template_name(&attempt.context(), &config.plugins.k8s).map(|name| format!("{name:?}"))
    };
    assert_eq!(name(&configured(&[])), None);
    let config = configured(&[("plugins.k8s.default-pod-template-name", json!("base"))]);
    assert_eq!(
        name(&config),
        Some(format!("{:?}", TemplateName::Default("base")))
    );
}
