//! docs/reference/configuration.md: every key of every section.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    programs::{Programs, WHOLE},
    source::{Described, Source},
};

const HEAD: &str = "# Configuration\n\n\
    Written by `cargo xtask reference` from the structs that are configured and their doc comments; do not edit.\n\n\
    Files are YAML, named by `--config` (a path or a glob); several are merged in the order of their names. Keys are\n\
    case-insensitive. A flag that is given (`--logger.level 5`) wins over an environment variable that is not empty, that\n\
    over the files, and those over the default. The variable stands below each key; a shell that cannot set names with\n\
    dots sets `FLYTE__LOGGER__LEVEL` for `logger.level`. Durations are written `1h30m`, `300ms` or as nanoseconds. A map\n\
    may be written as a list of maps of one key each, which keeps the case of keys; lists and maps replace the default.\n\
    Files are shared between services: a section that a service does not read is left alone.\n\n\
    Section `logger`, and those that docs/operations.md lists for flyteadmin, take effect as soon as their file changes. A\n\
    change of any other section is logged with a note that it needs a restart.\n";

/// The page.
pub(super) fn page(programs: &Programs, source: &Source) -> Result<String> {
    let mut readers: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for program in programs.names.iter().filter(|name| *name != WHOLE) {
        for section in programs.sections(program)? {
            readers
                .entry(text(&section, "name").to_owned())
                .or_default()
                .push(program);
        }
    }
    let mut sections = programs.sections(WHOLE)?;
    sections.sort_by_key(|section| text(section, "name").to_owned());
    let mut page = HEAD.to_owned();
    for section in &sections {
        let name = text(section, "name");
        let read_by = readers.get(name).map_or_else(
            || "`flyte`".to_owned(),
            |programs| format!("`{}`", programs.join("`, `")),
        );
        page.push_str(&format!("\n## {name}\n\nRead by {read_by}.\n\n"));
        page.push_str("| key, variable | type | default | |\n|---|---|---|---|\n");
        for key in section
            .get("keys")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let described = source
                .describe(text(section, "rust"), text(key, "path"))
                .with_context(|| format!("section {name}"))?;
            let variable = key
                .pointer("/environment/0")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let named = format!("`{}`<br>`{variable}`", text(key, "key"));
            page.push_str(&row(&named, &described, text(key, "default")));
            for (path, element) in &described.elements {
                let named = format!("`{}{path}`", text(key, "key"));
                page.push_str(&row(&named, element, ""));
            }
        }
    }
    Ok(page)
}

fn row(named: &str, described: &Described, default: &str) -> String {
    let default = match default {
        "" => String::new(),
        text => format!("`{}`", cell(text)),
    };
    format!(
        "| {named} | {} | {default} | {} |\n",
        cell(&described.kind),
        cell(&described.doc)
    )
}

/// Text that may stand in a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
