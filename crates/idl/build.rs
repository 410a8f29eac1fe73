//! Generates messages, stubs and the descriptor set from `proto/` without a protoc on the machine.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use heck::{ToSnakeCase as _, ToUpperCamelCase as _};
use prost_types::{DescriptorProto, FileDescriptorSet};

#[expect(
    clippy::disallowed_methods,
    reason = "Cargo tells a build script its paths by environment variables"
)]
fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, &root, &mut files)?;
    files.sort();
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).open_files(&files)?;
    let descriptors = compiler.file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Not `descriptors.encode_to_vec()`: that type knows no extensions, and the HTTP routes are one.
    fs::write(
        out.join("descriptors.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    fs::write(out.join("registry.rs"), registry(&descriptors))?;
    let mut config = prost_build::Config::new();
    config
        .btree_map(["."])
        .enable_type_names()
        .include_file("includes.rs");
    tonic_prost_build::configure()
        .generate_default_stubs(true)
        .emit_rerun_if_changed(false)
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}

/// Paths of all `.proto` files below `folder`, relative to `root`.
fn collect(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            files.push(path.strip_prefix(root)?.to_path_buf());
        }
    }
    Ok(())
}

/// A block that names all messages of flyteidl in calls of a macro `message!("full.name", Type);`, for code that must
/// treat every one of them.
fn registry(descriptors: &FileDescriptorSet) -> String {
    let mut calls = String::from("{\n");
    for file in &descriptors.file {
        if file.name().starts_with("flyteidl/") {
            let package = file.package();
            let module = format!("flyte_idl::proto::{}", package.replace('.', "::"));
            for message in &file.message_type {
                list(&mut calls, package, &module, message);
            }
        }
    }
    calls.push('}');
    calls
}

fn list(calls: &mut String, package: &str, module: &str, message: &DescriptorProto) {
    if message
        .options
        .as_ref()
        .is_some_and(prost_types::MessageOptions::map_entry)
    {
        return;
    }
    let name = message.name();
    let full_name = format!("{package}.{name}");
    calls.push_str(&format!(
        "message!({full_name:?}, {module}::{});\n",
        name.to_upper_camel_case()
    ));
    for inner in &message.nested_type {
        list(
            calls,
            &full_name,
            &format!("{module}::{}", name.to_snake_case()),
            inner,
        );
    }
}
