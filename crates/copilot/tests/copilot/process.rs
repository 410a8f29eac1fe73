//! Copilot as a process: signals, time, documents and exit codes (spec 05 §17, spec 07 §5.7).

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Output, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flyte_copilot::{Transfer, download};
use flyte_core::literals::{integer, string};
use flyte_idl::core::{
    BlobType, ErrorDocument, LiteralMap, SimpleType, blob_type::BlobDimensionality,
    container_error, literal_type::Type,
};
use flyte_platform::blob::BlobStore;
use prost::Message as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    bucket::Bucket,
    literals::{blob, interface, map, of, simple},
};

/// A bucket that is a folder, and the folders of a pod.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["store/bucket/meta", "outputs"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn storage(&self) -> Vec<String> {
        vec![
            "--storage.container=bucket".to_owned(),
            "--storage.type=stow".to_owned(),
            "--storage.stow.config".to_owned(),
            format!("path={}", self.path("store").display()),
            "--storage.stow.kind=local".to_owned(),
        ]
    }

    fn download(&self, more: &[&str]) -> Vec<String> {
        let mut line = vec!["download".to_owned()];
        for (name, value) in [
            ("--from-remote", "s3://bucket/meta/inputs.pb"),
            ("--to-output-prefix", "s3://bucket/meta"),
            ("--to-local-dir", self.path("inputs").to_str().unwrap()),
            ("--format", "JSON"),
            ("--input-interface", "CgA="),
        ] {
            line.extend([name.to_owned(), value.to_owned()]);
        }
        line.extend(more.iter().map(ToString::to_string));
        line
    }

    fn sidecar(&self, outputs: &str, more: &[&str]) -> Vec<String> {
        let mut line = vec!["sidecar".to_owned()];
        for (name, value) in [
            ("--to-raw-output", "s3://bucket/raw"),
            ("--to-output-prefix", "s3://bucket/meta"),
            ("--from-local-dir", self.path("outputs").to_str().unwrap()),
            ("--interface", outputs),
        ] {
            line.extend([name.to_owned(), value.to_owned()]);
        }
        line.extend(more.iter().map(ToString::to_string));
        line
    }

    fn document(&self, name: &str) -> Option<ErrorDocument> {
        let bytes = fs::read(self.path("store/bucket/meta").join(name)).ok()?;
        Some(ErrorDocument::decode(bytes.as_slice()).unwrap())
    }
}

fn encoded(outputs: &[(&str, Type)]) -> String {
    let outputs: Vec<_> = outputs
        .iter()
        .map(|(name, r#type)| (*name, of(r#type.clone())))
        .collect();
    BASE64_STANDARD.encode(interface(&outputs).encode_to_vec())
}

fn an_integer() -> Type {
    simple(SimpleType::Integer).r#type.unwrap()
}

fn a_blob() -> Type {
    Type::Blob(BlobType::default())
}

fn at_bucket(bucket: &str) -> Vec<String> {
    vec![
        "--storage.container=bucket".to_owned(),
        "--storage.type=minio".to_owned(),
        "--storage.connection.secret-key=secret".to_owned(),
        "--storage.connection.access-key=key".to_owned(),
        "--storage.connection.auth-type=accesskey".to_owned(),
        "--storage.connection.region=us-east-1".to_owned(),
        format!("--storage.connection.endpoint={bucket}"),
    ]
}

fn command(storage: &[String], line: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flyte-copilot"));
    command
        .args(["--storage.limits.maxDownloadMBs=0", "--logger.level=5"])
        .args(storage)
        .args(line)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(storage: &[String], line: &[String]) -> Output {
    command(storage, line).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A process that runs on.
struct Running {
    child: Child,
    lines: BufReader<ChildStderr>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        Self { child, lines }
    }

    fn wait_for(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "no {text:?}");
        }
    }

    fn terminate(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// Most memory that it had so far, in bytes.
    fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
        kilobytes.parse::<u64>().unwrap() * 1024
    }

    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

#[test]
fn a_download_ends_well_or_tells_why_not() {
    type Prepare = fn(&Machine);
    let none: Prepare = |_| {};
    let garbage: Prepare = |machine| machine.write("store/bucket/meta/inputs.pb", b"\xff\xff");
    let in_the_way: Prepare = |machine| {
        good(machine);
        machine.write("inputs", b"");
    };
    for (case, prepare, more, code, document) in [
        ("all is well", good, &[][..], 0, None),
        ("no limit", good, &["--timeout", "0"], 0, None),
        (
            "no inputs",
            none,
            &[],
            1,
            Some("no object at \"s3://bucket/meta/inputs.pb\""),
        ),
        ("no message", garbage, &[], 1, Some("is no LiteralMap")),
        (
            "a file where the folder goes",
            in_the_way,
            &[],
            1,
            Some("File exists"),
        ),
        (
            "no source",
            good,
            &["--from-remote="],
            1,
            Some("--from-remote is missing"),
        ),
        (
            "no folder",
            good,
            &["--to-local-dir="],
            1,
            Some("--to-local-dir is missing"),
        ),
        (
            "no place for a document",
            none,
            &["--to-output-prefix="],
            1,
            None,
        ),
    ]
        as [(&str, Prepare, &[&str], i32, Option<&str>); 8]
    {
        let machine = Machine::new();
        prepare(&machine);
        // The last of equal flags would be an error: each is given once.
        let mut line = machine.download(&[]);
        for flag in more {
            let name = flag.trim_end_matches('=');
            if let Some(at) = line.iter().position(|word| word == name) {
                line.drain(at..at + 2);
            }
        }
        line.extend(more.iter().map(ToString::to_string));
        let output = run(&machine.storage(), &line);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{case}: {}",
            said(&output)
        );
        let written = machine
            .document("error.pb")
            .map(|document| document.error.unwrap());
        assert_eq!(
            written.is_some(),
            document.is_some(),
            "{case}: {}",
            said(&output)
        );
        if let (Some(written), Some(document)) = (written, document) {
            assert_eq!(written.code, "InputDownloadFailed", "{case}");
            assert_eq!(written.kind(), container_error::Kind::Recoverable, "{case}");
            assert!(
                written.message.contains(document),
                "{case}: {}",
                written.message
            );
        }
        assert_eq!(
            machine.path("inputs/inputs.json").exists(),
            code == 0,
            "{case}"
        );
    }
}

fn good(machine: &Machine) {
    let inputs = map([("x", integer(1))]);
    machine.write("store/bucket/meta/inputs.pb", &inputs.encode_to_vec());
}

#[test]
fn a_sidecar_ends_well_whenever_the_engine_can_learn_why_it_failed() {
    let declared = encoded(&[("n", an_integer())]);
    for (case, file, interface, more, document) in [
        (
            "all is well",
            Some(("n", "1")),
            declared.as_str(),
            &[][..],
            None,
        ),
        (
            "nothing is written",
            None,
            &declared,
            &[],
            Some(("error.pb", "outputs [\"n\"] are not in")),
        ),
        (
            "another name",
            None,
            &declared,
            &["--err-output-name=errors.pb"],
            Some(("errors.pb", "outputs [\"n\"]")),
        ),
        (
            "the container failed",
            Some(("_ERROR", "no luck")),
            &declared,
            &[],
            Some(("error.pb", "User Error: no luck")),
        ),
        (
            "a wrong value",
            Some(("n", "one")),
            &declared,
            &[],
            Some(("error.pb", "failed to parse \"one\" as INTEGER")),
        ),
        ("no interface", Some(("n", "1")), "", &[], None),
        (
            "an interface that is none",
            Some(("n", "1")),
            "!",
            &[],
            Some(("error.pb", "--interface is no TypedInterface")),
        ),
        (
            "an interface without outputs",
            Some(("n", "1")),
            "CgA=",
            &[],
            None,
        ),
    ] {
        let machine = Machine::new();
        if let Some((name, text)) = file {
            machine.write(&format!("outputs/{name}"), text.as_bytes());
        }
        let line = machine.sidecar(interface, &["--start-watcher-type", "noop"]);
        let mut storage = machine.storage();
        storage.extend(more.iter().map(ToString::to_string));
        let output = run(&storage, &line);
        assert_eq!(output.status.code(), Some(0), "{case}: {}", said(&output));
        let outputs = machine.path("store/bucket/meta/outputs.pb");
        assert_eq!(outputs.exists(), case == "all is well", "{case}");
        match document {
            None => assert_eq!(machine.document("error.pb"), None, "{case}"),
            Some((name, text)) => {
                let error = machine.document(name).unwrap().error.unwrap();
                assert_eq!(error.code, "OutputUploadFailed", "{case}");
                assert_eq!(error.kind(), container_error::Kind::Recoverable, "{case}");
                assert!(error.message.contains(text), "{case}: {}", error.message);
            }
        }
    }
}

#[test]
fn a_sidecar_that_is_told_twice_to_stop_uploads_once_and_outputs_last() {
    let bucket = Bucket::start(0);
    let machine = Machine::new();
    machine.write("outputs/file", b"data");
    machine.write("outputs/n", b"7");
    let declared = encoded(&[("file", a_blob()), ("n", an_integer())]);
    let line = machine.sidecar(&declared, &["--timeout", "1h0m0s"]);
    bucket.hold("/raw/file");
    let mut sidecar = Running::start(command(&at_bucket(&bucket.endpoint), &line));
    sidecar.wait_for("waiting for SIGTERM");
    sidecar.terminate();
    bucket.wait_for("PUT /bucket/raw/file");
    sidecar.terminate();
    sidecar.terminate();
    bucket.release();
    let (code, said) = sidecar.end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(bucket.others(), ["PUT /bucket/meta/outputs.pb"]);
    let outputs = LiteralMap::decode(bucket.get("meta/outputs.pb").unwrap().as_slice());
    let single = blob("s3://bucket/raw/file", BlobDimensionality::Single);
    assert_eq!(outputs.unwrap(), map([("file", single), ("n", integer(7))]));
}

#[test]
fn a_download_that_is_stopped_says_so() {
    let bucket = Bucket::start(0);
    let machine = Machine::new();
    let file = blob("s3://bucket/data", BlobDimensionality::Single);
    bucket.put("meta/inputs.pb", &map([("x", file)]).encode_to_vec());
    bucket.put("data", b"never sent");
    bucket.hold("/data");
    let download = Running::start(command(
        &at_bucket(&bucket.endpoint),
        &machine.download(&[]),
    ));
    bucket.wait_for("GET /bucket/data");
    download.terminate();
    let (code, said) = download.end();
    bucket.release();
    assert_eq!(code, Some(1), "{said}");
    let document = bucket.get("meta/error.pb").unwrap();
    let error = ErrorDocument::decode(document.as_slice())
        .unwrap()
        .error
        .unwrap();
    assert!(
        error.message.contains("stopped before"),
        "{}",
        error.message
    );
}

#[test]
fn time_runs_out() {
    let bucket = Bucket::start(0);
    let machine = Machine::new();
    machine.write("outputs/file", b"data");
    bucket.put("meta/inputs.pb", &LiteralMap::default().encode_to_vec());
    let declared = encoded(&[("file", a_blob())]);
    for (held, line, code) in [
        (
            "/raw/file",
            machine.sidecar(
                &declared,
                &["--start-watcher-type", "noop", "--timeout", "1s"],
            ),
            0,
        ),
        ("/meta/inputs.pb", machine.download(&["--timeout", "1s"]), 1),
    ] {
        bucket.hold(held);
        let output = run(&at_bucket(&bucket.endpoint), &line);
        bucket.release();
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        let document = bucket.get("meta/error.pb").unwrap();
        let error = ErrorDocument::decode(document.as_slice())
            .unwrap()
            .error
            .unwrap();
        let message = &error.message;
        assert!(message.contains("not done in"), "{message}");
        assert!(message.contains(held), "{message}");
    }
    assert!(
        !bucket
            .keys()
            .contains(&"/bucket/meta/outputs.pb".to_owned())
    );
}

#[test]
fn a_bucket_that_is_away_for_a_moment_is_waited_for() {
    let bucket = Bucket::start(3);
    let machine = Machine::new();
    machine.write("outputs/n", b"7");
    let line = machine.sidecar(
        &encoded(&[("n", an_integer())]),
        &["--start-watcher-type", "noop"],
    );
    let output = run(&at_bucket(&bucket.endpoint), &line);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(bucket.keys(), ["/bucket/meta/outputs.pb"]);
}

#[test]
fn a_bucket_that_stays_away_is_a_failure_that_only_the_exit_code_tells() {
    // Nobody listens there any more.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let storage = at_bucket(&format!("http://{address}"));
    let machine = Machine::new();
    machine.write("outputs/n", b"7");
    let declared = encoded(&[("n", an_integer())]);
    for line in [
        machine.download(&["--timeout", "1s"]),
        machine.sidecar(
            &declared,
            &["--start-watcher-type", "noop", "--timeout", "1s"],
        ),
    ] {
        let begun = Instant::now();
        let output = run(&storage, &line);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("the error document could not be written"),
            "{said}"
        );
        assert!(begun.elapsed() < Duration::from_secs(20), "{said}");
    }
}

#[test]
fn the_store_may_be_described_by_variables() {
    let machine = Machine::new();
    good(&machine);
    let storage = ["--storage.container=bucket", "--storage.stow.kind=local"];
    let storage = storage.map(str::to_owned);
    let path = format!("path={}", machine.path("store").display());
    let output = command(&storage, &machine.download(&[]))
        .env("FLYTE__STORAGE__STOW__CONFIG", path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(fs::read(machine.path("inputs/x")).unwrap(), b"1");
}

#[test]
fn a_full_disk_is_told() {
    let machine = Machine::new();
    let inputs = map([("x", string(&"x".repeat(100_000)))]);
    machine.write("store/bucket/meta/inputs.pb", &inputs.encode_to_vec());
    // No file may have more than 8 KiB: as with a full disk, a write is refused half way.
    let mut shell = Command::new("sh");
    let output = shell
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_flyte-copilot"))
        .args(machine.storage())
        .args(machine.download(&[]))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let error = machine.document("error.pb").unwrap().error.unwrap();
    assert!(error.message.contains("inputs/x"), "{}", error.message);
    assert!(
        error.message.contains("File too large"),
        "{}",
        error.message
    );
    assert!(!machine.path("inputs/inputs.pb").exists());
}

#[test]
fn a_large_file_passes_through_little_memory() {
    const SIZE: u64 = 300 * 1024 * 1024;
    // A pod gives copilot 128 MiB; what is there before the upload is mostly the program.
    const MOST: u64 = 48 * 1024 * 1024;
    let bucket = Bucket::start(0);
    let machine = Machine::new();
    fs::File::create(machine.path("outputs/file"))
        .unwrap()
        .set_len(SIZE)
        .unwrap();
    let declared = encoded(&[("file", a_blob())]);
    bucket.hold("/meta/outputs.pb");
    let line = machine.sidecar(&declared, &[]);
    let mut sidecar = Running::start(command(&at_bucket(&bucket.endpoint), &line));
    sidecar.wait_for("waiting for SIGTERM");
    let before = sidecar.peak();
    sidecar.terminate();
    bucket.wait_for("PUT /bucket/meta/outputs.pb");
    let after = sidecar.peak();
    bucket.release();
    let (code, said) = sidecar.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(after - before < MOST, "{} MiB more", (after - before) >> 20);
    assert!(bucket.keys().contains(&"/bucket/raw/file".to_owned()));
}

#[test]
fn mistakes_on_the_command_line_and_in_files_exit_1() {
    let machine = Machine::new();
    let file = machine.path("strict.yaml");
    fs::write(&file, "storage:\n  unknown-key: something\n").unwrap();
    let configured = format!("--config={}", file.display());
    let line = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    for (case, line) in [
        ("nothing", line(&[])),
        ("an unknown format", line(&["download", "--format", "XML"])),
        (
            "an unknown mode",
            line(&["sidecar", "--upload-mode", "SOON"]),
        ),
        ("no duration", line(&["sidecar", "--timeout", "soon"])),
        (
            "an unknown key",
            [vec![configured], machine.download(&[])].concat(),
        ),
    ] {
        let output = run(&machine.storage(), &line);
        assert_eq!(output.status.code(), Some(1), "{case}: {}", said(&output));
    }
}

#[tokio::test]
async fn files_of_web_servers_are_fetched_and_refusals_are_told() {
    let server = Bucket::start(0);
    server.put("file", b"from the web");
    let folder = tempfile::tempdir().unwrap();
    for (name, path, expected) in [
        ("found", "file?X-Signature=secret", Ok(())),
        ("missing", "gone?X-Signature=secret", Err("404 Not Found")),
    ] {
        let store = BlobStore::in_memory();
        let uri = format!("{}/bucket/{path}", server.endpoint);
        let inputs = map([("x", blob(&uri, BlobDimensionality::Single))]);
        let from = "mem://container/inputs.pb".to_owned();
        store
            .put(&from, inputs.encode_to_vec().into())
            .await
            .unwrap();
        let download = download::Download {
            from,
            to: folder.path().join(name),
            format: download::Format::Json,
        };
        let done = download.run(&Transfer::new(store)).await;
        match (done, expected) {
            (Ok(()), Ok(())) => {
                let file = fs::read(Path::new(&download.to).join("x")).unwrap();
                assert_eq!(file, b"from the web");
            }
            (Err(error), Err(text)) => {
                let error = crate::literals::told(&error);
                assert!(error.contains(text), "{error}");
                // A signature is as good as a password.
                assert!(!error.contains("secret"), "{error}");
            }
            (done, _) => panic!("{name}: {done:?}"),
        }
    }
}
