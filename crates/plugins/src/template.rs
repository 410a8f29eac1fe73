//! `{{ .input }}` and its kin in commands and arguments (spec 05 §5).

use std::sync::LazyLock;

use flyte_idl::core::{Literal, LiteralMap, literal, primitive, scalar};
use regex::{Captures, Regex};

use crate::TaskContext;

/// One pass finds every variable; what it stands for is looked up by lower-cased name.
static VARIABLE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\{\{ *[.$]([A-Za-z]+)(?:\.([^}\s]+))? *\}\}")
        .expect("the pattern above is a regular expression")
});

/// A template asks for what there is not.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TemplateError {
    /// An input of another name.
    #[error("input template [{template}]: requested input is not found [{input}]")]
    NoInput {
        /// The argument, as the task has it.
        template: String,
        /// The name of the input that it refers to.
        input: String,
    },
    /// An input that has no text form.
    #[error(
        "input template [{template}]: input [{input}] of this kind cannot be written into a command"
    )]
    NotRenderable {
        /// The argument, as the task has it.
        template: String,
        /// The name of the input that it refers to.
        input: String,
    },
}

/// Whether any template reads the inputs themselves, so that they have to be loaded.
pub fn needs_inputs<'a>(templates: impl IntoIterator<Item = &'a String>) -> bool {
    templates.into_iter().any(|template| {
        VARIABLE.captures_iter(template).any(|captures| {
            captures.get(2).is_some() && is_inputs(captures.get(1).map_or("", |name| name.as_str()))
        })
    })
}

/// Renders one argument. Unknown variables stay as they are.
///
/// # Errors
/// An input that is missing or has no text form.
pub fn render(
    template: &str,
    context: &TaskContext<'_>,
    inputs: Option<&LiteralMap>,
) -> Result<String, TemplateError> {
    if !template.contains("{{") {
        return Ok(template.to_owned());
    }
    let mut problem = None;
    let rendered = VARIABLE.replace_all(template, |captures: &Captures<'_>| {
        let whole = captures.get(0).map_or("", |whole| whole.as_str());
        let name = captures.get(1).map_or("", |name| name.as_str());
        if let Some(input) = captures.get(2).map(|input| input.as_str()) {
            let Some(inputs) = inputs.filter(|_| is_inputs(name)) else {
                return whole.to_owned();
            };
            let Some(literal) = inputs.literals.get(input) else {
                problem.get_or_insert(TemplateError::NoInput {
                    template: template.to_owned(),
                    input: input.to_owned(),
                });
                return whole.to_owned();
            };
            return render_literal(literal).unwrap_or_else(|| {
                problem.get_or_insert(TemplateError::NotRenderable {
                    template: template.to_owned(),
                    input: input.to_owned(),
                });
                whole.to_owned()
            });
        }
        match name.to_lowercase().as_str() {
            "input" => context.inputs.clone(),
            "outputprefix" => context.output_folder.clone(),
            "inputprefix" => folder(&context.inputs).to_owned(),
            "rawoutputdataprefix" => context.raw_output.clone(),
            // flytekit reads the two quote characters as "none".
            "prevcheckpointprefix" if context.previous_checkpoints.is_empty() => "\"\"".to_owned(),
            "prevcheckpointprefix" => context.previous_checkpoints.clone(),
            "checkpointoutputprefix" => context.checkpoints.clone(),
            "perretryuniquekey" => unique_key(context.generated_name),
            "tasktemplatepath" => context.task_template.clone(),
            "namespace" => context.namespace.to_owned(),
            _ => whole.to_owned(),
        }
    });
    let rendered = rendered.into_owned();
    problem.map_or(Ok(rendered), Err)
}

/// Whether a template asks for the uploaded task template.
pub fn needs_task_template<'a>(templates: impl IntoIterator<Item = &'a String>) -> bool {
    templates.into_iter().any(|template| {
        VARIABLE.captures_iter(template).any(|captures| {
            captures.get(2).is_none()
                && captures
                    .get(1)
                    .is_some_and(|name| name.as_str().eq_ignore_ascii_case("tasktemplatepath"))
        })
    })
}

fn is_inputs(name: &str) -> bool {
    name.eq_ignore_ascii_case("inputs")
}

fn folder(uri: &str) -> &str {
    uri.rsplit_once('/').map_or(uri, |(folder, _)| folder)
}

/// A leading run outside `[a-zA-Z_]` becomes `a`, then each run outside `[a-zA-Z0-9_]` becomes `_`.
fn unique_key(name: &str) -> String {
    let tail = name.trim_start_matches(|c: char| !(c.is_ascii_alphabetic() || c == '_'));
    let mut key = String::with_capacity(name.len());
    if tail.len() < name.len() {
        key.push('a');
    }
    let mut in_run = false;
    for c in tail.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            key.push(c);
            in_run = false;
        } else if !in_run {
            key.push('_');
            in_run = true;
        }
    }
    key
}

fn render_literal(literal: &Literal) -> Option<String> {
    match literal.value.as_ref()? {
        literal::Value::Collection(collection) => {
            let items = collection
                .literals
                .iter()
                .map(render_literal)
                .collect::<Option<Vec<_>>>()?;
            Some(format!("[{}]", items.join(",")))
        }
        literal::Value::Scalar(scalar) => match scalar.value.as_ref()? {
            scalar::Value::Primitive(primitive) => render_primitive(primitive.value.as_ref()?),
            scalar::Value::Blob(blob) => Some(blob.uri.clone()),
            scalar::Value::Schema(schema) => Some(schema.uri.clone()),
            _ => None,
        },
        literal::Value::Map(_) | literal::Value::OffloadedMetadata(_) => None,
    }
}

fn render_primitive(primitive: &primitive::Value) -> Option<String> {
    Some(match primitive {
        primitive::Value::Integer(number) => number.to_string(),
        primitive::Value::Boolean(flag) => flag.to_string(),
        primitive::Value::StringValue(text) => text.clone(),
        primitive::Value::FloatValue(number) => go_float(*number),
        primitive::Value::Datetime(time) => {
            let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
            jiff::Timestamp::from_nanosecond(nanos).ok()?.to_string()
        }
        primitive::Value::Duration(duration) => {
            let part = |name: &str, value: i64| (value != 0).then(|| format!("{name}:{value}"));
            [
                part("seconds", duration.seconds),
                part("nanos", i64::from(duration.nanos)),
            ]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ")
        }
    })
}

/// A float as Go's `%v`: shortest digits, exponent form below 1e-4 and from 1e21.
fn go_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-4..1e21).contains(&magnitude) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent
        .strip_prefix('-')
        .map_or(('+', exponent), |rest| ('-', rest));
    format!("{digits}e{sign}{exponent:0>2}")
}
