//! A flag for every key (spec 07 §1.6).

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches};

use super::Shape;

/// The flags of one section: `--<section>.<field>.<field>`, listed by `--help` under its own heading and
/// left out of the short `-h`.
pub fn arguments(section: &str, shape: &Shape) -> Vec<Arg> {
    shape
        .leaves()
        .into_iter()
        .map(|leaf| {
            let name = format!("{section}.{leaf}");
            let default = shape.default_text(&leaf);
            let help = if default.is_empty() {
                "Default: none".to_owned()
            } else {
                format!("Default: {default}")
            };
            let argument = Arg::new(name.clone())
                .long(name)
                .value_name("VALUE")
                .help(help)
                .help_heading(format!("Section {section}"))
                .hide_short_help(true)
                .global(true)
                .action(clap::ArgAction::Append);
            if matches!(shape.at(&leaf), Some(Shape::Bool(_))) {
                // As Go's flags do: `--key` alone is true, a value stands after `=`.
                argument
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
            } else {
                argument.num_args(1)
            }
        })
        .collect()
}

/// The section flags that were given, by full name; a repeated flag is joined with commas.
pub fn given<'a>(
    matches: &ArgMatches,
    names: impl IntoIterator<Item = &'a str>,
) -> BTreeMap<String, String> {
    names
        .into_iter()
        .filter_map(|name| {
            let values = matches.try_get_many::<String>(name).ok()??;
            Some((
                name.to_owned(),
                values.cloned().collect::<Vec<_>>().join(","),
            ))
        })
        .collect()
}
