//! Random workflows for a real backend.
//!
//! ```text
//! truth programs SEED COUNT         programs of these seeds in Python, with what must come of each, as JSON
//! truth task BEHAVIOUR INPUT PREFIX  does what a task of such a program does
//! ```
//!
//! `tests/python/test_truth.py` registers and runs the programs with stock flytekit; its tasks are containers that run this
//! program, which starts in a hundredth of the time of an interpreter with flytekit.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program for a test: it is told what to do by its environment, and answers on its standard output"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    error::Error,
    process::ExitCode,
    time::Duration,
};

use flyte_idl::core::{
    ContainerError, ErrorDocument, LiteralMap, container_error, execution_error::ErrorKind,
};
use flyte_platform::{
    blob::{BlobStore, StorageConfig},
    config::Secret,
};
use flyte_tests::truth::{
    compute::{Behaviour, End},
    evaluate::{self, Codes},
    flytekit,
    generate::generate,
    values::{self, Value},
};
use prost::Message as _;
use serde_json::{Value as Json, json};

/// What a second of a behaviour takes here, in milliseconds: enough that tasks end in another order than they began.
const SECOND: u64 = 5;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<ExitCode, Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["programs", seed, count] => {
            println!("{}", programs(seed.parse()?, count.parse()?));
            Ok(ExitCode::SUCCESS)
        }
        ["task", behaviour, input, prefix] => {
            let behaviour = Behaviour::of(behaviour).ok_or("no such behaviour")?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(task(&behaviour, input, prefix))
        }
        _ => Err("usage: truth programs SEED COUNT | truth task BEHAVIOUR INPUT PREFIX".into()),
    }
}

/// The first programs from a seed on that flytekit can say, and how many were left out for which reason.
fn programs(first: u64, count: usize) -> Json {
    let (mut found, mut left_out) = (Vec::new(), BTreeMap::<String, u32>::new());
    let mut seed = first;
    while found.len() < count {
        let program = generate(seed);
        match flytekit::write(&program, &format!("s{seed}")) {
            Ok(written) => {
                let expected = evaluate::evaluate_at_any_pace(&written.program);
                let (outputs, codes) = match expected.end {
                    Ok(outputs) => (object(&outputs), BTreeSet::new()),
                    Err(codes) => (Json::Null, of_this_node(&codes)),
                };
                found.push(json!({
                    "seed": seed, "source": written.source, "workflow": written.workflow, "inputs": written.inputs,
                    "max_parallelism": program.max_parallelism, "nodes": program.size(), "outputs": outputs, "codes": codes,
                }));
            }
            Err(reason) => *left_out.entry(reason.to_string()).or_default() += 1,
        }
        seed += 1;
    }
    json!({ "programs": found, "left_out": left_out })
}

/// The node of the simulation evicts a pod whose container fails; a real one says what its process ended with.
fn of_this_node(codes: &Codes) -> Codes {
    codes
        .iter()
        .map(|code| code.replace("Evicted", "Error"))
        .collect()
}

fn object(values: &BTreeMap<String, Value>) -> Json {
    values
        .iter()
        .map(|(name, value)| (name.clone(), tagged(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// A value with what kind of literal it is.
fn tagged(value: &Value) -> Json {
    match value {
        Value::Int(number) => json!(["integer", number]),
        Value::Float(number) => json!(["float_value", number]),
        Value::Text(text) => json!(["string_value", text]),
        Value::Flag(flag) => json!(["boolean", flag]),
        Value::List(items) => json!(["collection", items.iter().map(tagged).collect::<Vec<_>>()]),
        Value::Map(items) => json!(["map", object(items)]),
        Value::Packed(inner) => json!(["binary", plain(inner)]),
        Value::None => json!(["none_type", null]),
        Value::Union(inner) => json!(["union", tagged(inner)]),
        Value::Struct(_) | Value::Failure(_) | Value::Other(_) => {
            json!(["other", format!("{value:?}")])
        }
    }
}

/// What msgpack holds.
fn plain(value: &Value) -> Json {
    match value {
        Value::Int(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Text(text) => json!(text),
        Value::Flag(flag) => json!(flag),
        Value::List(items) => items.iter().map(plain).collect(),
        Value::Map(items) => items
            .iter()
            .map(|(name, item)| (name.clone(), plain(item)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        _ => Json::Null,
    }
}

/// Reads inputs, does what the behaviour says in this attempt, and writes outputs or an error.
async fn task(behaviour: &Behaviour, input: &str, prefix: &str) -> Result<ExitCode, Failure> {
    let attempt: u32 = env::var("FLYTE_ATTEMPT_NUMBER")?.parse()?;
    let blobs = BlobStore::open(&storage()?)?;
    tokio::time::sleep(Duration::from_millis(behaviour.seconds * SECOND)).await;
    let error = match behaviour.end {
        End::Crashes(times) if attempt < times => return Ok(ExitCode::FAILURE),
        End::Recoverable(times) if attempt < times => {
            Some(("Recoverable", container_error::Kind::Recoverable))
        }
        End::Error => Some(("Error", container_error::Kind::NonRecoverable)),
        End::Well | End::Crashes(_) | End::Recoverable(_) => None,
    };
    let (name, bytes) = if let Some((name, kind)) = error {
        let document = ErrorDocument {
            error: Some(ContainerError {
                code: format!("USER:{name}{}", behaviour.salt),
                message: "a value is wrong".into(),
                kind: kind.into(),
                origin: ErrorKind::User.into(),
                ..ContainerError::default()
            }),
        };
        ("error.pb", document.encode_to_vec())
    } else {
        let inputs = LiteralMap::decode(blobs.get(input).await?)?;
        let outputs = behaviour.outputs(&values::of_literals(&inputs));
        ("outputs.pb", values::to_literals(&outputs).encode_to_vec())
    };
    blobs.put(&format!("{prefix}/{name}"), bytes.into()).await?;
    Ok(ExitCode::SUCCESS)
}

/// The store, as flytekit finds it in a task.
fn storage() -> Result<StorageConfig, Failure> {
    let mut config = StorageConfig {
        kind: "minio".into(),
        container: "my-s3-bucket".into(),
        enable_multicontainer: true,
        ..StorageConfig::default()
    };
    config.connection.endpoint = env::var("FLYTE_AWS_ENDPOINT")?;
    config.connection.auth_type = "accesskey".into();
    config.connection.access_key = env::var("FLYTE_AWS_ACCESS_KEY_ID")?;
    config.connection.secret_key = Secret::new(env::var("FLYTE_AWS_SECRET_ACCESS_KEY")?);
    config.connection.disable_ssl = true;
    Ok(config)
}
