//! Generated literals: what the container finds is what was sent, and what it leaves is what comes back.

use std::{collections::BTreeMap, fs, path::Path};

use flyte_copilot::{download::Format, sidecar};
use flyte_core::literals::{
    self, boolean, collection, datetime, duration, float, integer, none, string, variant,
};
use flyte_idl::core::{Binary, Error, Literal, LiteralMap, SimpleType, literal, primitive, scalar};
use prost::Message as _;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::literals::{Pod, simple, told};

/// Seeds of the run; one that fails is kept here.
const SEEDS: std::ops::Range<u64> = 0..150;

fn text(random: &mut StdRng, longest: usize) -> String {
    let letters = [
        'a',
        'Z',
        '0',
        '-',
        ' ',
        '"',
        '\\',
        '\u{fc}',
        '\u{1f600}',
        '%',
        '\n',
        '~',
        '{',
        ':',
        '#',
    ];
    let length = random.random_range(0..=longest);
    (0..length)
        .map(|_| letters[random.random_range(0..letters.len())])
        .collect()
}

/// A key that is a name of a file.
fn key(random: &mut StdRng) -> String {
    format!("k{}", text(random, 6))
}

/// A value whose text is all of it: no space around a string, no message pack with another tag.
fn value(random: &mut StdRng) -> Literal {
    match random.random_range(0..10) {
        0 => integer(random.random()),
        1 => float(f64::from_bits(random.random::<u64>() & !(1 << 62))),
        2 => string(text(random, 40).trim_matches([' ', '\n', '\t'])),
        3 => boolean(random.random()),
        4 => datetime(prost_types::Timestamp {
            seconds: random.random_range(-60_000_000_000..250_000_000_000),
            nanos: random.random_range(0..1_000_000_000),
        }),
        5 => duration(literals::of_nanoseconds(random.random())),
        6 => none(),
        7 => literals::scalar(scalar::Value::Binary(Binary {
            value: (0..random.random_range(0..50))
                .map(|_| random.random())
                .collect(),
            tag: literals::MESSAGE_PACK.to_owned(),
        })),
        8 => literals::scalar(scalar::Value::Error(Error {
            message: text(random, 20).trim_matches([' ', '\n', '\t']).to_owned(),
            ..Error::default()
        })),
        _ => {
            let object = serde_json::json!({ text(random, 5): [text(random, 5), random.random::<i16>(), null] });
            let fields = flyte_idl::json::json_to_struct(object.as_object().unwrap());
            literals::scalar(scalar::Value::Generic(fields))
        }
    }
}

fn generated(random: &mut StdRng, depth: usize) -> Literal {
    match random.random_range(0..if depth == 0 { 6 } else { 10 }) {
        0..=5 => value(random),
        6 | 7 => {
            let length = random.random_range(0..4);
            collection((0..length).map(|_| generated(random, depth - 1)).collect())
        }
        8 => {
            let length = random.random_range(0..4);
            let members = (0..length).map(|_| (key(random), generated(random, depth - 1)));
            literals::map(members.collect::<BTreeMap<_, _>>())
        }
        _ => variant(generated(random, depth - 1), simple(SimpleType::None)),
    }
}

fn simple_of(value: &scalar::Value) -> SimpleType {
    match value {
        scalar::Value::Primitive(primitive) => match primitive.value.as_ref().unwrap() {
            primitive::Value::Integer(_) => SimpleType::Integer,
            primitive::Value::FloatValue(_) => SimpleType::Float,
            primitive::Value::StringValue(_) => SimpleType::String,
            primitive::Value::Boolean(_) => SimpleType::Boolean,
            primitive::Value::Datetime(_) => SimpleType::Datetime,
            primitive::Value::Duration(_) => SimpleType::Duration,
        },
        scalar::Value::Binary(_) => SimpleType::Binary,
        scalar::Value::Error(_) => SimpleType::Error,
        scalar::Value::Generic(_) => SimpleType::Struct,
        _ => SimpleType::None,
    }
}

/// The literal that a container finds at a path, of the shape of `like`.
fn found(path: &Path, like: &Literal) -> Literal {
    match like.value.as_ref().unwrap() {
        literal::Value::Collection(items) => {
            let count = fs::read_dir(path).unwrap().count();
            assert_eq!(count, items.literals.len(), "{}", path.display());
            let items = items.literals.iter().enumerate();
            collection(
                items
                    .map(|(index, item)| found(&path.join(index.to_string()), item))
                    .collect(),
            )
        }
        literal::Value::Map(members) => {
            let count = fs::read_dir(path).unwrap().count();
            assert_eq!(count, members.literals.len(), "{}", path.display());
            let members = members.literals.iter();
            literals::map(
                members
                    .map(|(key, member)| (key.clone(), found(&path.join(key), member)))
                    .collect(),
            )
        }
        literal::Value::Scalar(scalar) => match scalar.value.as_ref().unwrap() {
            scalar::Value::Union(union) => variant(
                found(path, union.value.as_ref().unwrap()),
                union.r#type.clone().unwrap(),
            ),
            value => sidecar::literal(simple_of(value), &fs::read(path).unwrap()).unwrap(),
        },
        literal::Value::OffloadedMetadata(_) => panic!("nothing is offloaded"),
    }
}

#[tokio::test]
async fn generated_literals_are_found_as_they_were_sent() {
    for seed in SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let count = random.random_range(1..5);
        let inputs = LiteralMap {
            literals: (0..count)
                .map(|index| (format!("v{index}"), generated(&mut random, 3)))
                .collect(),
        };
        for format in [Format::Json, Format::Yaml, Format::Proto] {
            let case = format!("seed {seed} as {format:?}");
            let pod = Pod::new();
            let done = pod.download(&inputs, format).await;
            done.unwrap_or_else(|error| panic!("{case}: {}", told(&error)));
            let written = fs::read(pod.inputs().join("inputs.pb")).unwrap();
            assert_eq!(
                LiteralMap::decode(written.as_slice()).unwrap(),
                inputs,
                "{case}"
            );
            for (name, literal) in &inputs.literals {
                let back = found(&pod.inputs().join(name), literal);
                assert_eq!(&back, literal, "{case}: {name}");
            }
        }
        // The two texts say the same.
        let read = async |format, name: &str| {
            let pod = Pod::new();
            pod.download(&inputs, format).await.unwrap();
            fs::read_to_string(pod.inputs().join(name)).unwrap()
        };
        let json: serde_json::Value =
            serde_json::from_str(&read(Format::Json, "inputs.json").await).unwrap();
        let yaml: serde_json::Value =
            serde_norway::from_str(&read(Format::Yaml, "inputs.yaml").await).unwrap();
        assert_eq!(yaml, json, "seed {seed}");
    }
}

#[tokio::test]
async fn generated_values_come_back_as_outputs() {
    for seed in SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let values: Vec<Literal> = (0..8).map(|_| value(&mut random)).collect();
        let names: Vec<String> = (0..values.len()).map(|index| format!("v{index}")).collect();
        let inputs = LiteralMap {
            literals: names.iter().cloned().zip(values.clone()).collect(),
        };
        let pod = Pod::new();
        pod.download(&inputs, Format::Proto).await.unwrap();
        let mut types = Vec::new();
        for (name, literal) in names.iter().zip(&values) {
            fs::copy(pod.inputs().join(name), pod.outputs().join(name)).unwrap();
            let Some(literal::Value::Scalar(scalar)) = &literal.value else {
                panic!("{literal:?} is no scalar");
            };
            types.push((
                name.as_str(),
                simple(simple_of(scalar.value.as_ref().unwrap())),
            ));
        }
        let outputs = pod.upload(&types).await;
        let outputs = outputs.unwrap_or_else(|error| panic!("seed {seed}: {}", told(&error)));
        assert_eq!(outputs, inputs, "seed {seed}");
    }
}
