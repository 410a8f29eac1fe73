//! What the tasks of random workflows do: a number from all that went in, and outputs from that number.
//!
//! The node of the simulation runs this on the `inputs.pb` that it finds, the evaluator on the values that it thinks
//! went in.

use std::collections::BTreeMap;

use super::values::{self, Type, Value};

/// Numbers stay below this.
const MODULUS: i64 = 9_973;

/// How a task ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It succeeds.
    Well,
    /// Its container fails in so many attempts, then it succeeds.
    Crashes(u32),
    /// It writes an error that may be tried again in so many attempts, then it succeeds.
    Recoverable(u32),
    /// It writes an error for good.
    Error,
}

/// A task as its pod's arguments tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// How it ends.
    pub end: End,
    /// How long each of its attempts takes.
    pub seconds: u64,
    /// Makes its outputs differ from those of others with the same inputs.
    pub salt: i64,
    /// Its outputs.
    pub outputs: BTreeMap<String, Type>,
}

impl Behaviour {
    /// As the first argument of a container.
    pub fn to_text(&self) -> String {
        let end = match &self.end {
            End::Well => "well".to_owned(),
            End::Crashes(times) => format!("crashes*{times}"),
            End::Recoverable(times) => format!("recoverable*{times}"),
            End::Error => "error".to_owned(),
        };
        let outputs: Vec<String> = self
            .outputs
            .iter()
            .map(|(name, kind)| format!("{name}={}", type_text(kind)))
            .collect();
        format!(
            "compute:{end}:{}:{}:{}",
            self.seconds,
            self.salt,
            outputs.join(";")
        )
    }

    /// From the first argument of a container; none if that says something else.
    pub fn of(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("compute:")?.split(':');
        let end = match parts.next()?.split_once('*') {
            Some(("crashes", times)) => End::Crashes(times.parse().ok()?),
            Some(("recoverable", times)) => End::Recoverable(times.parse().ok()?),
            Some(_) => return None,
            None => match text.split(':').nth(1)? {
                "well" => End::Well,
                "error" => End::Error,
                _ => return None,
            },
        };
        Some(Self {
            end,
            seconds: parts.next()?.parse().ok()?,
            salt: parts.next()?.parse().ok()?,
            outputs: parts
                .next()?
                .split(';')
                .filter(|output| !output.is_empty())
                .map(|output| {
                    let (name, kind) = output.split_once('=')?;
                    Some((name.to_owned(), type_of(kind)?))
                })
                .collect::<Option<_>>()?,
        })
    }

    /// The outputs for these inputs.
    pub fn outputs(&self, inputs: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
        let weight = inputs
            .iter()
            .map(|(name, value)| spelled(name) + weigh(value))
            .fold(self.salt, |sum, part| (sum + part) % MODULUS);
        self.outputs
            .iter()
            .map(|(name, kind)| (name.clone(), produce(kind, weight + spelled(name))))
            .collect()
    }
}

fn type_text(kind: &Type) -> String {
    match kind {
        Type::Int => "i".into(),
        Type::Float => "f".into(),
        Type::Text => "t".into(),
        Type::Flag => "b".into(),
        Type::List(item) => format!("l{}", type_text(item)),
        Type::Map(item) => format!("m{}", type_text(item)),
        Type::Record => "r".into(),
        Type::Structure => "s".into(),
        Type::Optional(inner) => format!("o{}", type_text(inner)),
        Type::Failure => "e".into(),
    }
}

fn type_of(text: &str) -> Option<Type> {
    let inner = || type_of(text.get(1..)?).map(Box::new);
    Some(match text.chars().next()? {
        'i' => Type::Int,
        'f' => Type::Float,
        't' => Type::Text,
        'b' => Type::Flag,
        'l' => Type::List(inner()?),
        'm' => Type::Map(inner()?),
        'r' => Type::Record,
        's' => Type::Structure,
        'o' => Type::Optional(inner()?),
        'e' => Type::Failure,
        _ => return None,
    })
}

fn spelled(text: &str) -> i64 {
    text.bytes()
        .fold(1, |sum, byte| (sum * 31 + i64::from(byte)) % MODULUS)
}

/// Numbers are small, so that sums of them do not overflow.
fn weigh(value: &Value) -> i64 {
    let fields = |items: &BTreeMap<String, Value>| {
        items
            .iter()
            .map(|(name, item)| spelled(name) + weigh(item))
            .sum::<i64>()
    };
    let weight = match value {
        Value::Int(number) => number % MODULUS,
        #[expect(
            clippy::cast_possible_truncation,
            reason = "doubles here are quarters of small numbers"
        )]
        Value::Float(number) => (number * 4.0) as i64 % MODULUS + 2,
        Value::Text(text) => spelled(text),
        Value::Flag(flag) => 3 + i64::from(*flag),
        Value::List(items) => (1..)
            .zip(items)
            .map(|(place, item)| place * weigh(item))
            .sum::<i64>(),
        Value::Map(items) => 5 + fields(items),
        Value::Packed(inner) => 7 + weigh(inner),
        Value::Struct(items) => 11 + fields(items),
        Value::None => 13,
        Value::Union(inner) => 17 + weigh(inner),
        Value::Failure(node) => 19 + spelled(node),
        Value::Other(what) => 23 + spelled(what),
    };
    weight % MODULUS
}

/// A value of this type for a number.
pub fn produce(kind: &Type, number: i64) -> Value {
    let number = number.rem_euclid(MODULUS);
    match kind {
        Type::Int => Value::Int(number % 10),
        #[expect(clippy::cast_precision_loss, reason = "the number is small")]
        Type::Float => Value::Float((number % 10) as f64 / 4.0),
        Type::Text => Value::Text(format!("t{}", number % 5)),
        Type::Flag => Value::Flag(number % 2 == 0),
        Type::List(item) => Value::List((0..3).map(|more| produce(item, number + more)).collect()),
        Type::Map(item) => Value::Map(
            ["one", "two"]
                .into_iter()
                .zip(1..)
                .map(|(key, more)| (key.to_owned(), produce(item, number + more)))
                .collect(),
        ),
        Type::Record => Value::Packed(Box::new(Value::Map(of_fields(values::record(), number)))),
        Type::Structure => Value::Struct(of_fields(values::structure(), number)),
        Type::Optional(_) | Type::Failure if number % 2 == 0 => Value::Union(Box::new(Value::None)),
        Type::Optional(inner) => Value::Union(Box::new(produce(inner, number))),
        Type::Failure => Value::Union(Box::new(Value::Failure(String::new()))),
    }
}

fn of_fields(fields: BTreeMap<&'static str, Type>, number: i64) -> BTreeMap<String, Value> {
    fields
        .iter()
        .zip(1..)
        .map(|((name, kind), more)| ((*name).to_owned(), produce(kind, number + more)))
        .collect()
}
