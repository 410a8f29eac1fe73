//! What pods leave behind: processes that left their group, temporary files, folders.

use std::path::Path;

use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::kubelet::{Machine, ended, is_alive, sh};

/// A container that ignores SIGTERM, and a process in a session of its own that it started; both write their pid.
const DETACHES: &str = "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$; while true; do sleep 0.05; done' & \
                        sleep 0.2; echo $$; while true; do sleep 0.05; done";

async fn detached(machine: &Machine) -> [String; 2] {
    machine.create("p", sh(DETACHES)).await;
    machine.phase("p", "Running").await;
    let pids: [String; 2] = machine.lines("p").await;
    assert!(pids.iter().all(|pid| is_alive(pid)), "{pids:?}");
    pids
}

fn supervisor(machine: &Machine) -> rustix::process::Pid {
    let record = std::fs::read_dir(machine.file("node/records"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|kind| kind == "json"))
        .unwrap();
    let record: Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    let pid = i32::try_from(record["supervisor"]["pid"].as_i64().unwrap()).unwrap();
    rustix::process::Pid::from_raw(pid).unwrap()
}

#[tokio::test]
async fn detached_processes_end_before_their_pod_does_whatever_the_grace() {
    for grace in [0, 1] {
        let machine = Machine::start().await;
        let pids = detached(&machine).await;
        machine
            .pods()
            .delete("p", &DeleteParams::default().grace_period(grace))
            .await
            .unwrap();
        machine.gone("p").await;
        if grace == 0 {
            // Deleted by force, the pod is gone before its processes are: they end with its folder.
            until_removed(&machine.file("node/pods")).await;
        }
        assert!(
            !pids.iter().any(|pid| is_alive(pid)),
            "grace {grace}: {pids:?}"
        );
    }
}

#[tokio::test]
async fn a_pod_that_ends_by_itself_leaves_no_detached_process() {
    let machine = Machine::start().await;
    machine
        .create(
            "p",
            sh("setsid sh -c 'echo $$; exec sleep 600' & sleep 0.2"),
        )
        .await;
    machine.phase("p", "Succeeded").await;
    let [pid] = machine.lines("p").await;
    assert!(!is_alive(&pid));
}

#[tokio::test]
async fn detached_processes_end_also_when_the_supervisor_is_killed() {
    let machine = Machine::start().await;
    let pids = detached(&machine).await;
    rustix::process::kill_process(supervisor(&machine), rustix::process::Signal::KILL).unwrap();
    machine.phase("p", "Failed").await;
    assert!(!pids.iter().any(|pid| is_alive(pid)), "{pids:?}");
}

#[tokio::test]
async fn detached_processes_of_a_pod_that_went_while_no_kubelet_ran_end() {
    let mut machine = Machine::start().await;
    let pids = detached(&machine).await;
    machine.kill_kubelet().await;
    rustix::process::kill_process(supervisor(&machine), rustix::process::Signal::KILL).unwrap();
    machine
        .pods()
        .delete("p", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    machine.start_kubelet().await;
    until_removed(&machine.file("node/pods")).await;
    assert!(!pids.iter().any(|pid| is_alive(pid)), "{pids:?}");
}

/// Waits until a folder is empty, told by the kernel.
async fn until_removed(folder: &Path) {
    let folder = folder.to_owned();
    let wait = tokio::task::spawn_blocking(move || {
        use rustix::fs::inotify;
        let changes = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&changes, &folder, inotify::WatchFlags::DELETE).unwrap();
        let limit = rustix::event::Timespec {
            tv_sec: 30,
            tv_nsec: 0,
        };
        while std::fs::read_dir(&folder).unwrap().next().is_some() {
            let mut polled = [rustix::event::PollFd::new(
                &changes,
                rustix::event::PollFlags::IN,
            )];
            let ready = rustix::event::poll(&mut polled, Some(&limit)).unwrap();
            assert_eq!(ready, 1, "{} never becomes empty", folder.display());
            let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
            inotify::Reader::new(&changes, &mut buffer).next().unwrap();
        }
    });
    wait.await.unwrap();
}

#[tokio::test]
async fn temporary_files_have_short_names_and_go_with_their_pod() {
    let machine = Machine::start().await;
    machine
        .create("p", sh("touch $TMPDIR/file; echo $TMPDIR; ls -ld $TMPDIR"))
        .await;
    machine.phase("p", "Succeeded").await;
    let [folder, mode] = machine.lines("p").await;
    // 107 bytes are what a unix socket may have; Ray needs some 70 of them.
    assert!(folder.len() <= 32, "{folder}");
    assert!(mode.starts_with("drwx------"), "{mode}");
    assert!(Path::new(&folder).join("file").exists());
    machine
        .pods()
        .delete("p", &DeleteParams::default())
        .await
        .unwrap();
    machine.gone("p").await;
    until_removed(&machine.file("node/pods")).await;
    assert!(!Path::new(&folder).exists());
}

#[tokio::test]
async fn a_folder_without_write_bits_goes_with_its_pod() {
    let machine = Machine::start().await;
    let script = "mkdir -p deep/er; touch deep/er/file; chmod -R a-w deep";
    let pod = machine.create("p", sh(script)).await;
    machine.phase("p", "Succeeded").await;
    machine
        .pods()
        .delete("p", &DeleteParams::default())
        .await
        .unwrap();
    until_removed(&machine.file("node/pods")).await;
    let record = format!("node/records/{}.json", pod.uid().unwrap());
    assert!(!machine.file(&record).exists());
}

/// A container that holds so many megabytes and then waits, or ends.
fn holding(megabytes: u32, then: &str) -> Value {
    let script =
        format!("x=$(head -c {megabytes}000000 /dev/zero | tr '\\0' a); echo ${{#x}}; {then}");
    let mut spec = sh(&script);
    spec["containers"][0]["resources"] =
        json!({"limits": {"memory": "64Mi"}, "requests": {"memory": "1Mi"}});
    spec
}

#[tokio::test]
async fn a_container_that_holds_more_memory_than_its_limit_is_killed_for_it() {
    let machine = Machine::start().await;
    machine.create("large", holding(100, "sleep 600")).await;
    machine.create("small", holding(5, "sleep 1")).await;
    let state = ended(&machine.phase("large", "Failed").await, "main");
    assert_eq!(
        (state.exit_code, state.reason.as_deref()),
        (137, Some("OOMKilled"))
    );
    let message = state.message.unwrap();
    assert!(message.ends_with("its limit is 64Mi"), "{message}");
    machine.phase("small", "Succeeded").await;
}

#[tokio::test]
async fn memory_of_processes_that_left_the_group_counts_too() {
    let machine = Machine::start().await;
    let mut spec = holding(100, "sleep 600");
    let script = spec["containers"][0]["command"][2]
        .as_str()
        .unwrap()
        .to_owned();
    let detached = format!(
        "setsid sh -c \"{}\" & sleep 600",
        script.replace('$', "\\$")
    );
    spec["containers"][0]["command"][2] = json!(detached);
    machine.create("p", spec).await;
    let state = ended(&machine.phase("p", "Failed").await, "main");
    assert_eq!(state.reason.as_deref(), Some("OOMKilled"));
}

#[tokio::test]
async fn a_cordoned_node_takes_no_pod_until_it_is_uncordoned() {
    use k8s_openapi::api::core::v1::Node;
    use kube::api::{Api, Patch, PatchParams};
    let machine = Machine::start().await;
    let nodes: Api<Node> = Api::all(machine.client.clone());
    let change = async |patch: Value| {
        nodes
            .patch("node", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    };
    change(json!({"spec": {"unschedulable": true}})).await;
    // Known to the kubelet once a pod is told so; one that came before the watch told it may have run.
    let mut number = 0;
    let waits = loop {
        let name = format!("p{number}");
        machine.create(&name, sh("true")).await;
        let pod = machine
            .until(&name, "decided", |pod| {
                let told = format!("{:?}", pod.map(|pod| &pod.status));
                told.contains("were unschedulable") || told.contains("Succeeded")
            })
            .await;
        if format!("{pod:?}").contains("were unschedulable") {
            break name;
        }
        number += 1;
    };
    change(json!({"spec": {"unschedulable": null}})).await;
    machine.phase(&waits, "Succeeded").await;
    let mut spec = sh("true");
    spec["nodeSelector"] = json!({"disk": "fast"});
    machine.create("picky", spec).await;
    machine
        .until("picky", "waiting", |pod| {
            format!("{pod:?}").contains("didn't match Pod's node affinity/selector: disk=fast")
        })
        .await;
    change(json!({"metadata": {"labels": {"disk": "fast"}}})).await;
    machine.phase("picky", "Succeeded").await;
}
