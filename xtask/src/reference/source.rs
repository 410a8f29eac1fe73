//! Doc comments and types of configuration structs, read from the sources.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use syn::{
    Attribute, Expr, ExprLit, Fields, GenericArgument, Item, ItemEnum, ItemStruct, Lit, LitStr,
    Meta, PathArguments, Type,
};

/// Structs and enums that serde reads, by crate and name.
pub(super) struct Source {
    items: BTreeMap<(String, String), Shape>,
}

/// What a type looks like in a file.
enum Shape {
    Struct(Vec<Field>),
    /// Names of the values.
    Enum(Vec<String>),
}

/// A field as serde names it.
pub(super) struct Field {
    name: String,
    doc: String,
    kind: Type,
}

/// One key as people read it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Described {
    /// What it means.
    pub(super) doc: String,
    /// What may be written there.
    pub(super) kind: String,
    /// Keys of the elements, where it is a list or map of structs: path below this key, and what it is.
    pub(super) elements: Vec<(String, Described)>,
}

impl Source {
    /// All sources below `crates`.
    ///
    /// # Errors
    /// A file that cannot be read or parsed.
    pub(super) fn read(crates: &Path) -> Result<Self> {
        let mut source = Self {
            items: BTreeMap::new(),
        };
        for entry in fs::read_dir(crates)? {
            let folder = entry?.path();
            let mut files = Vec::new();
            collect(&folder.join("src"), &mut files)?;
            let Some(name) = folder.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let krate = match name {
                "flyte" => "flyte".to_owned(),
                other => format!("flyte_{other}"),
            };
            for file in files {
                let text = fs::read_to_string(&file)?;
                // Most files hold no configuration and need not be parsed.
                if text.contains("Deserialize") || text.contains("deserialize") {
                    source
                        .add(&krate, &text)
                        .with_context(|| format!("{} cannot be parsed", file.display()))?;
                }
            }
        }
        Ok(source)
    }

    fn add(&mut self, krate: &str, text: &str) -> Result<()> {
        for item in syn::parse_file(text)?.items {
            let (name, shape) = match &item {
                Item::Struct(item) if is_read(&item.attrs) => {
                    (item.ident.to_string(), fields(item))
                }
                Item::Enum(item) if is_read(&item.attrs) => (item.ident.to_string(), values(item)),
                _ => continue,
            };
            self.items.insert((krate.to_owned(), name), shape);
        }
        Ok(())
    }

    /// What stands at `path` of the section that is decoded into `rust`, a path such as `flyte_platform::sql::DatabaseConfig`.
    ///
    /// # Errors
    /// A field that is not found, or has no doc comment.
    pub(super) fn describe(&self, rust: &str, path: &str) -> Result<Described> {
        let krate = rust.split("::").next().unwrap_or_default();
        let kind: Type =
            syn::parse_str(rust).with_context(|| format!("{rust} is no path of a type"))?;
        if path.is_empty() {
            return self.element_keys(krate, &kind, String::new());
        }
        let mut at = kind;
        let mut found = None;
        for part in path.split('.') {
            let Some(Shape::Struct(fields)) = self.find(krate, &at) else {
                anyhow::bail!("{part:?} of {path} in {rust} has no struct in the sources");
            };
            let field = fields
                .iter()
                .find(|field| field.name == part)
                .with_context(|| format!("{part:?} of {path} in {rust} is no field"))?;
            at = field.kind.clone();
            found = Some(field);
        }
        let field = found.with_context(|| format!("{rust} without a path"))?;
        anyhow::ensure!(!field.doc.is_empty(), "{path} in {rust} has no doc comment");
        self.element_keys(krate, &field.kind, field.doc.clone())
    }

    fn element_keys(&self, krate: &str, kind: &Type, doc: String) -> Result<Described> {
        let mut elements = Vec::new();
        if let Some((element, key)) = element(kind)
            && let Some(Shape::Struct(fields)) = self.find(krate, &element)
        {
            for field in fields {
                let inner = self.element_keys(krate, &field.kind, field.doc.clone())?;
                if let Some(Shape::Struct(_)) = self.find(krate, &field.kind) {
                    elements.extend(self.below(
                        krate,
                        &format!("{key}.{}", field.name),
                        &field.kind,
                    )?);
                } else {
                    elements.push((format!("{key}.{}", field.name), inner));
                }
            }
        }
        Ok(Described {
            doc,
            kind: self.kind(krate, kind),
            elements,
        })
    }

    /// The keys of a struct that is an element's field.
    fn below(&self, krate: &str, prefix: &str, kind: &Type) -> Result<Vec<(String, Described)>> {
        let Some(Shape::Struct(fields)) = self.find(krate, kind) else {
            return Ok(Vec::new());
        };
        fields
            .iter()
            .map(|field| {
                let described = self.element_keys(krate, &field.kind, field.doc.clone())?;
                Ok((format!("{prefix}.{}", field.name), described))
            })
            .collect()
    }

    fn find(&self, krate: &str, kind: &Type) -> Option<&Shape> {
        let (name, arguments) = named(kind)?;
        if matches!(name.as_str(), "Option" | "Box") {
            return self.find(krate, arguments.first()?);
        }
        self.items
            .get(&(krate.to_owned(), name.clone()))
            .or_else(|| {
                let mut others = self.items.iter().filter(|((_, other), _)| *other == name);
                others.next().map(|(_, shape)| shape)
            })
    }

    /// What may be written, for people.
    fn kind(&self, krate: &str, kind: &Type) -> String {
        let Some((name, arguments)) = named(kind) else {
            return "text".into();
        };
        let inner = |index: usize| {
            arguments
                .get(index)
                .map_or_else(|| "text".to_owned(), |argument| self.kind(krate, argument))
        };
        match name.as_str() {
            "bool" => "true or false".into(),
            "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" => {
                "whole number".into()
            }
            "f32" | "f64" => "number".into(),
            "Duration" => "duration".into(),
            "Secret" => "secret text".into(),
            "Option" | "Box" => inner(0),
            "StringMap" => "map of text".into(),
            "KeyedList" => format!("map of {}", inner(0)),
            "BTreeMap" | "IndexMap" | "HashMap" => format!("map of {}", inner(1)),
            "Vec" | "BTreeSet" => format!("list of {}", inner(0)),
            _ => match self.find(krate, kind) {
                Some(Shape::Enum(values)) => values
                    .iter()
                    .map(|value| format!("`{value}`"))
                    .collect::<Vec<_>>()
                    .join(" or "),
                Some(Shape::Struct(fields)) if !fields.is_empty() => "the keys below".into(),
                _ => "text".into(),
            },
        }
    }
}

/// The element of a list or a map, and how it is written in a path.
fn element(kind: &Type) -> Option<(Type, &'static str)> {
    let (name, arguments) = named(kind)?;
    match name.as_str() {
        "Vec" => Some((arguments.first()?.clone(), "[]")),
        "KeyedList" => Some((arguments.first()?.clone(), ".NAME")),
        "BTreeMap" | "IndexMap" | "HashMap" => Some((arguments.get(1)?.clone(), ".NAME")),
        "Option" | "Box" => element(arguments.first()?),
        _ => None,
    }
}

/// Last part of a path and its type arguments.
fn named(kind: &Type) -> Option<(String, Vec<Type>)> {
    let Type::Path(path) = kind else { return None };
    let last = path.path.segments.last()?;
    let arguments = match &last.arguments {
        PathArguments::AngleBracketed(given) => given
            .args
            .iter()
            .filter_map(|argument| match argument {
                GenericArgument::Type(kind) => Some(kind.clone()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    Some((last.ident.to_string(), arguments))
}

fn is_read(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let mut found = false;
        if attribute.path().is_ident("derive") {
            // What cannot be parsed here, the compiler has refused before.
            attribute
                .parse_nested_meta(|meta| {
                    found |= meta.path.is_ident("Deserialize");
                    Ok(())
                })
                .unwrap_or_default();
        }
        found
    })
}

fn fields(item: &ItemStruct) -> Shape {
    let all = serde(&item.attrs, "rename_all");
    let Fields::Named(named) = &item.fields else {
        return Shape::Struct(Vec::new());
    };
    let fields = named.named.iter().map(|field| Field {
        name: serde(&field.attrs, "rename").unwrap_or_else(|| {
            let name = field.ident.as_ref().map(ToString::to_string);
            renamed(
                name.unwrap_or_default().trim_start_matches("r#"),
                all.as_deref(),
            )
        }),
        doc: doc(&field.attrs),
        kind: field.ty.clone(),
    });
    Shape::Struct(fields.collect())
}

fn values(item: &ItemEnum) -> Shape {
    let all = serde(&item.attrs, "rename_all");
    let values = item.variants.iter().map(|variant| {
        serde(&variant.attrs, "rename").unwrap_or_else(|| {
            let name = variant.ident.to_string();
            match all.as_deref() {
                Some("lowercase") => name.to_lowercase(),
                Some("camelCase") => {
                    let mut letters = name.chars();
                    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
                    first.into_iter().chain(letters).collect()
                }
                _ => name,
            }
        })
    });
    Shape::Enum(values.collect())
}

/// serde's names of fields.
fn renamed(name: &str, rule: Option<&str>) -> String {
    let mut words = name.split('_').filter(|word| !word.is_empty());
    match rule {
        Some("camelCase") => {
            let mut text = words.next().unwrap_or_default().to_owned();
            for word in words {
                let mut letters = word.chars();
                text.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
                text.extend(letters);
            }
            text
        }
        Some("kebab-case") => words.collect::<Vec<_>>().join("-"),
        Some("lowercase") => name.to_lowercase(),
        _ => name.to_owned(),
    }
}

/// The text of `#[serde(NAME = "…")]`.
fn serde(attributes: &[Attribute], name: &str) -> Option<String> {
    let mut found = None;
    for attribute in attributes {
        if !attribute.path().is_ident("serde") {
            continue;
        }
        attribute
            .parse_nested_meta(|meta| {
                if let Ok(value) = meta.value() {
                    let text: LitStr = value.parse()?;
                    if meta.path.is_ident(name) {
                        found = Some(text.value());
                    }
                }
                Ok(())
            })
            .unwrap_or_default();
    }
    found
}

/// The doc comment as one line; links to items lose their brackets.
fn doc(attributes: &[Attribute]) -> String {
    let lines = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                Expr::Lit(ExprLit {
                    lit: Lit::Str(text),
                    ..
                }) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        });
    let text = lines.collect::<Vec<_>>().join(" ");
    text.trim().replace("[`", "`").replace("`]", "`")
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        let mut source = Source {
            items: BTreeMap::new(),
        };
        let text = r#"
            /// Section `logger`.
            #[derive(Serialize, Deserialize)]
            #[serde(default, rename_all = "camelCase")]
            pub struct Logger {
                /// How much,
                /// see [`Level`].
                pub show_source: bool,
                /// How it looks.
                #[serde(rename = "formatter-x")]
                pub formatter: Option<Formatter>,
                /// Others.
                pub pools: KeyedList<Pool>,
                pub bare: u16,
            }
            #[derive(Deserialize)]
            pub struct Formatter {
                /// Which.
                pub kind: Format,
            }
            #[derive(Deserialize)]
            #[serde(rename_all = "lowercase")]
            pub enum Format { Json, #[serde(rename = "TEXT")] Text }
            #[derive(Deserialize)]
            pub struct Pool {
                /// Its name.
                pub pool: String,
            }
        "#;
        source.add("flyte_platform", text).unwrap();
        source
    }

    #[test]
    fn keys_are_found_by_the_names_that_serde_gives_them() {
        let source = source();
        for (path, doc, kind) in [
            ("showSource", "How much, see `Level`.", "true or false"),
            ("formatter-x.kind", "Which.", "`json` or `TEXT`"),
            ("pools", "Others.", "map of the keys below"),
        ] {
            let found = source
                .describe("flyte_platform::telemetry::Logger", path)
                .unwrap();
            assert_eq!(
                (found.doc.as_str(), found.kind.as_str()),
                (doc, kind),
                "{path}"
            );
        }
        let pools = source
            .describe("flyte_platform::telemetry::Logger", "pools")
            .unwrap();
        let (path, pool) = &pools.elements[0];
        assert_eq!(
            (path.as_str(), pool.doc.as_str()),
            (".NAME.pool", "Its name.")
        );
    }

    #[test]
    fn a_key_without_a_doc_comment_is_refused() {
        let error = source()
            .describe("flyte_platform::telemetry::Logger", "bare")
            .unwrap_err();
        assert!(error.to_string().contains("no doc comment"), "{error}");
    }
}
