//! Variables in commands and environments: `${NAME}`, expanded once, in the manifest's order.
//!
//! `${HANDOVER}` is left as it is: only the driver knows which binary runs. So is every other name that is not
//! known here: the driver also has the values of `environment_file`, which are never in the agent's hands. There
//! is no shell: nothing else is special.

use std::path::Path;

use model::id::InstanceId;

/// What one instance is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expanded {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Inherited, declared and our own variables; each name once.
    pub environment: Vec<(String, String)>,
}

/// What the variables come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sources<'a> {
    /// The slot.
    pub instance: &'a InstanceId,
    /// `${PORT}`; `None`: it has none, and there is no such variable.
    pub port: Option<u16>,
    /// `${RELEASE_DIR}`.
    pub directory: &'a Path,
    /// From the environment of `up`, what the service may inherit.
    pub inherited: &'a [(String, String)],
    /// Declared in the manifest, in order.
    pub declared: &'a [(String, String)],
    /// Program and arguments as in the manifest: the service's, or those of a hook or a check.
    pub command: &'a [String],
}

/// Expands all of it.
pub(crate) fn expand(sources: &Sources<'_>) -> Expanded {
    let InstanceId { service, release, number } = sources.instance;
    let mut names: Vec<(String, String)> = sources.inherited.to_vec();
    let port = sources.port.map(|port| port.to_string());
    let own = [
        ("VERSION", release.version.to_string()),
        ("SERVICE", service.to_string()),
        ("INSTANCE", number.to_string()),
        ("RELEASE_DIR", sources.directory.display().to_string()),
    ];
    names.extend(own.map(|(name, value)| (name.to_owned(), value)));
    names.extend(port.iter().map(|port| ("PORT".to_owned(), port.clone())));
    let mut environment = sources.inherited.to_vec();
    for (name, text) in sources.declared {
        let value = replace(text, &names);
        set(&mut environment, name, value.clone());
        set(&mut names, name, value);
    }
    if let Some(port) = &port {
        set(&mut environment, "PORT", port.clone());
        // What the command says for PORT is where the instance is reached, whatever was declared.
        set(&mut names, "PORT", port.clone());
    }
    set(&mut environment, "HANDOVER_SERVICE", service.to_string());
    set(&mut environment, "HANDOVER_VERSION", release.version.to_string());
    set(&mut environment, "HANDOVER_INSTANCE", sources.instance.to_string());
    Expanded { command: sources.command.iter().map(|text| replace(text, &names)).collect(), environment }
}

fn set(variables: &mut Vec<(String, String)>, name: &str, value: String) {
    match variables.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => variables.push((name.to_owned(), value)),
    }
}

fn replace(text: &str, names: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        out.push_str(before);
        let value = from.find('}').and_then(|end| {
            let name = &from[2..end];
            names.iter().find(|(known, _)| known == name).map(|(_, value)| (value, end + 1))
        });
        match value {
            Some((value, end)) => {
                out.push_str(value);
                rest = &from[end..];
            }
            None => {
                out.push_str("${");
                rest = &from[2..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    fn expanded(declared: &[(&str, &str)], command: &[&str]) -> Expanded {
        expand(&Sources {
            instance: &"shop@1.4.2+c2/1".parse().unwrap(),
            port: Some(20_001),
            directory: Path::new("/state/releases/shop/1.4.2"),
            inherited: &pairs(&[("ZONE", "eu")]),
            declared: &pairs(declared),
            command: &command.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(),
        })
    }

    #[test]
    fn a_variable_sees_those_declared_before_it_and_not_itself() {
        let declared = [("A", "${B}-${A}"), ("B", "${A}/${PORT}"), ("ZONE", "${ZONE}-1")];
        let expanded = expanded(&declared, &["./shop", "--to=${B}", "${ZONE}", "${INSTANCE}@${VERSION}"]);
        assert_eq!(expanded.command, ["./shop", "--to=${B}-${A}/20001", "eu-1", "1@1.4.2"]);
        assert_eq!(
            expanded.environment[..3],
            pairs(&[("ZONE", "eu-1"), ("A", "${B}-${A}"), ("B", "${B}-${A}/20001")])
        );
    }

    #[test]
    fn our_own_variables_cannot_be_declared_away() {
        let expanded = expanded(&[("PORT", "80")], &["./shop", "${PORT}"]);
        assert_eq!(expanded.command[1], "20001");
        assert!(expanded.environment.contains(&("PORT".to_owned(), "20001".to_owned())));
        assert!(
            expanded.environment.contains(&("HANDOVER_INSTANCE".to_owned(), "shop@1.4.2+c2/1".to_owned()))
        );
        assert_eq!(expanded.environment.iter().filter(|(name, _)| name == "PORT").count(), 1);
    }

    #[test]
    fn one_without_a_port_has_no_such_variable() {
        let expanded = expand(&Sources {
            instance: &"mill@1/0".parse().unwrap(),
            port: None,
            directory: Path::new("/state/releases/mill/1"),
            inherited: &[],
            declared: &[],
            command: &["./mill".to_owned(), "${PORT}".to_owned()],
        });
        assert_eq!(expanded.command[1], "${PORT}");
        assert!(expanded.environment.iter().all(|(name, _)| name != "PORT"));
    }

    #[test]
    fn what_is_not_ours_stays_as_it_is() {
        let command = ["${HANDOVER}", "$PORT", "${", "${NO", "${}", "a${UNKNOWN}b${SERVICE}"];
        assert_eq!(
            expanded(&[], &command).command,
            ["${HANDOVER}", "$PORT", "${", "${NO", "${}", "a${UNKNOWN}bshop"]
        );
    }
}
