//! Log records as one line of JSON, as Go Flyte writes them (spec 07 §2.1).

use std::{fmt, io::Write as _};

use serde_json::{Map, Value, json};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

/// Writes each event as a line of JSON to stderr, with the fields of the spans around it.
pub struct JsonLines {
    style: Style,
    show_source: bool,
}

#[derive(Clone, Copy)]
enum Style {
    Flyte,
    Gcp,
}

impl JsonLines {
    /// `{"json":{…},"level":…,"msg":…,"ts":…}`.
    pub fn flyte(show_source: bool) -> Self {
        Self {
            style: Style::Flyte,
            show_source,
        }
    }

    /// `{"data":{…},"message":…,"severity":…,"timestamp":…}`.
    pub fn gcp(show_source: bool) -> Self {
        Self {
            style: Style::Gcp,
            show_source,
        }
    }

    fn line(&self, level: Level, mut fields: Map<String, Value>, source: Option<String>) -> Value {
        let message = fields
            .remove("message")
            .unwrap_or_else(|| Value::String(String::new()));
        if let Some(source) = source.filter(|_| self.show_source) {
            fields.insert("src".into(), source.into());
        }
        let time = jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        match self.style {
            Style::Flyte => {
                let level = match level {
                    Level::ERROR => "error",
                    Level::WARN => "warning",
                    Level::INFO => "info",
                    Level::DEBUG => "debug",
                    Level::TRACE => "trace",
                };
                json!({ "json": fields, "level": level, "msg": message, "ts": time })
            }
            Style::Gcp => {
                let severity = match level {
                    Level::ERROR => "ERROR",
                    Level::WARN => "WARNING",
                    Level::INFO => "INFO",
                    Level::DEBUG | Level::TRACE => "DEBUG",
                };
                json!({ "data": fields, "message": message, "severity": severity, "timestamp": time })
            }
        }
    }
}

/// Fields of a span, kept in its extensions.
struct SpanFields(Map<String, Value>);

struct Collect<'a>(&'a mut Map<String, Value>);

impl Visit for Collect<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0
            .insert(field.name().to_owned(), Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JsonLines {
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        let mut fields = Map::new();
        attributes.record(&mut Collect(&mut fields));
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(fields));
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<SpanFields>()
        {
            values.record(&mut Collect(&mut fields.0));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Map::new();
        if let Some(scope) = context.event_scope(event) {
            for span in scope.from_root() {
                if let Some(recorded) = span.extensions().get::<SpanFields>() {
                    fields.extend(recorded.0.clone());
                }
            }
        }
        event.record(&mut Collect(&mut fields));
        let metadata = event.metadata();
        let source = metadata
            .file()
            .map(|file| format!("{file}:{}", metadata.line().unwrap_or(0)));
        let line = format!("{}\n", self.line(*metadata.level(), fields, source));
        // Nobody is left to tell when stderr is gone.
        drop(std::io::stderr().lock().write_all(line.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_members_that_log_pipelines_read() {
        let mut fields = Map::new();
        fields.insert("message".into(), "hello".into());
        fields.insert("exec_id".into(), "f1".into());
        let line = JsonLines::flyte(true).line(Level::WARN, fields.clone(), Some("a.rs:1".into()));
        assert_eq!(line["level"], "warning");
        assert_eq!(line["msg"], "hello");
        assert_eq!(line["json"], json!({ "exec_id": "f1", "src": "a.rs:1" }));
        let line = JsonLines::gcp(false).line(Level::ERROR, fields, Some("a.rs:1".into()));
        assert_eq!(line["severity"], "ERROR");
        assert_eq!(line["data"], json!({ "exec_id": "f1" }));
    }
}
