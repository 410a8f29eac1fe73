//! Mount namespaces: whether containers can have mounts of their own on this machine, and by which program.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;

/// The program and arguments that give a process mounts of its own: `unshare` of util-linux, as root or with a user
/// namespace that keeps the user. Empty where neither works.
pub(super) async fn program(folder: &Path) -> Vec<String> {
    const WAYS: [&[&str]; 2] = [
        &["unshare", "--mount", "--"],
        &[
            "unshare",
            "--user",
            "--map-current-user",
            "--keep-caps",
            "--mount",
            "--",
        ],
    ];
    for way in WAYS {
        let mut words = way
            .iter()
            .map(OsStr::new)
            .chain([OsStr::new("mount"), OsStr::new("--bind")]);
        let Some(program) = words.next() else {
            continue;
        };
        let mut command = tokio::process::Command::new(program);
        command
            .args(words)
            .args([folder, folder])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if command.status().await.is_ok_and(|status| status.success()) {
            return way.iter().map(|word| (*word).to_owned()).collect();
        }
    }
    Vec::new()
}
