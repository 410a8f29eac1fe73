//! How a pod says which secrets the webhook shall inject (spec 05 §6.12).

use flyte_core::unique_id::base32;
use flyte_idl::core::{Secret, secret::MountType};

/// Tells the webhook to look at the pod.
pub const INJECT_LABEL: &str = "inject-flyte-secrets";
/// Annotations are `flyte.secrets/s<index>`.
pub const ANNOTATION_PREFIX: &str = "flyte.secrets/s";

/// Annotation name and value for each secret.
pub fn annotations(secrets: &[Secret]) -> impl Iterator<Item = (String, String)> {
    secrets.iter().enumerate().map(|(index, secret)| {
        (
            format!("{ANNOTATION_PREFIX}{index}"),
            base32(text(secret).as_bytes()),
        )
    })
}

/// The multi-line text form that the webhook reads: a field per line, in order of the message, zero values left out.
fn text(secret: &Secret) -> String {
    let mut lines = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            lines.push_str(name);
            lines.push_str(": ");
            lines.push_str(value);
            lines.push('\n');
        }
    };
    let quoted = |value: &str| {
        if value.is_empty() {
            String::new()
        } else {
            quote(value)
        }
    };
    line("group", &quoted(&secret.group));
    line("group_version", &quoted(&secret.group_version));
    line("key", &quoted(&secret.key));
    if secret.mount_requirement() != MountType::Any {
        line(
            "mount_requirement",
            secret.mount_requirement().as_str_name(),
        );
    }
    line("env_var", &quoted(&secret.env_var));
    lines
}

fn quote(value: &str) -> String {
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_become_annotations_as_go_writes_them() {
        let secrets = [
            Secret {
                key: "my_key".into(),
                ..Secret::default()
            },
            Secret {
                group: ";':/\\".into(),
                ..Secret::default()
            },
        ];
        let found: Vec<_> = annotations(&secrets).collect();
        assert_eq!(
            found[0],
            ("flyte.secrets/s0".into(), "nnsxsoraejwxsx2lmv3secq".into())
        );
        assert_eq!(
            found[1],
            (
                "flyte.secrets/s1".into(),
                "m4zg54lqhiqceozhhixvyxbcbi".into()
            )
        );
    }
}
