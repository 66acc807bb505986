//! Which directories persist, and where they come from.

use super::PlanVolume;
use super::request::VolumeOverride;
use crate::error::{Error, Result};
use crate::recipe::{ContainerPath, Data, Name, did_you_mean};
use std::collections::{BTreeMap, BTreeSet};

/// A volume on its way into the plan.
struct Draft {
    name: String,
    target: ContainerPath,
    source: Option<super::HostPath>,
    read_only: bool,
}

/// The recipe's volumes, the image's that no volume covers, and the user's; parents before what is mounted inside them.
pub(super) fn mount(data: &BTreeMap<Name, Data>, image: &[String], wishes: &[VolumeOverride]) -> Result<Vec<PlanVolume>> {
    let draft = |(name, data): (&Name, &Data)| Draft {
        name: name.to_string(),
        target: data.path.clone(),
        source: None,
        read_only: false,
    };
    let mut list: Vec<Draft> = data.iter().map(draft).collect();
    of_image(&mut list, image)?;
    for wish in wishes {
        match wish {
            VolumeOverride::Named { name, source, read_only } => {
                let Some(found) = list.iter_mut().find(|draft| draft.name == *name) else {
                    return Err(unknown(&list, name));
                };
                found.source = Some(source.clone());
                found.read_only = *read_only;
            }
            VolumeOverride::Bind { source, target, read_only } => {
                // The user's directory stands in for a volume at the same path.
                let name = match list.iter().position(|draft| draft.target == *target) {
                    Some(at) => list.remove(at).name,
                    None => free_name(&list, target),
                };
                list.push(Draft { name, target: target.clone(), source: Some(source.clone()), read_only: *read_only });
            }
        }
    }
    list.sort_by(|a, b| a.target.cmp(&b.target));
    let plan = list.into_iter().map(|draft| PlanVolume {
        name: draft.name,
        target: draft.target.as_str().to_owned(),
        source: draft.source,
        read_only: draft.read_only,
    });
    Ok(plan.collect())
}

/// What the image wants kept and the recipe does not know of: without it the data would be lost with the upper directory.
fn of_image(list: &mut Vec<Draft>, image: &[String]) -> Result<()> {
    let mut targets = BTreeSet::new();
    for text in image {
        let what = || Error::failed(format!("the image has a VOLUME at `{}`", text.escape_debug()));
        let target = ContainerPath::lenient(text).map_err(|error| what().because(error))?;
        if !target.may_be_volume() {
            return Err(what().because("nothing can be mounted at that path"));
        }
        targets.insert(target);
    }
    for target in targets {
        if !list.iter().any(|draft| draft.target.covers(&target)) {
            let name = free_name(list, &target);
            list.push(Draft { name, target, source: None, read_only: false });
        }
    }
    Ok(())
}

/// A name from a path: `var-lib-mysql` for `/var/lib/mysql`; it becomes the name of a directory.
fn free_name(list: &[Draft], target: &ContainerPath) -> String {
    let mut name = String::new();
    for c in target.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }) {
        if c != '-' || !(name.is_empty() || name.ends_with('-')) {
            name.push(c);
        }
    }
    // Only ASCII is in it, so any length is a boundary.
    name.truncate(60);
    let name = name.trim_end_matches('-');
    let name = if name.is_empty() { "volume" } else { name };
    let taken = |name: &str| list.iter().any(|draft| draft.name == name);
    if !taken(name) {
        return name.to_owned();
    }
    // One of as many numbers as there are volumes, and one more, is free.
    (2..=list.len() + 2).map(|number| format!("{name}-{number}")).find(|name| !taken(name)).unwrap_or_else(|| name.to_owned())
}

fn unknown(list: &[Draft], name: &str) -> Error {
    let names = || list.iter().map(|draft| draft.name.as_str());
    let all: Vec<String> = list.iter().map(|draft| format!("{} ({})", draft.name, draft.target)).collect();
    let all = if all.is_empty() { "this service has no volumes".into() } else { format!("volumes: {}", all.join(", ")) };
    let near = did_you_mean(name, names()).map(|near| format!("{near} ")).unwrap_or_default();
    Error::usage(format!("there is no volume `{}`", name.escape_debug())).hint(format!("{near}{all}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn plan(data: &[(&str, &str)], image: &[&str], wishes: &[&str]) -> Result<Vec<String>> {
        let data = data.iter().map(|(name, path)| (name.parse().unwrap(), Data { path: path.parse().unwrap() })).collect();
        let image: Vec<String> = image.iter().map(|path| (*path).to_owned()).collect();
        let wishes: Vec<_> = wishes.iter().map(|wish| VolumeOverride::parse(OsStr::new(wish)).unwrap()).collect();
        let shown = |volume: PlanVolume| {
            let source = volume.source.map(|source| format!(" <- {}", source.as_path().display())).unwrap_or_default();
            format!("{} {}{source}{}", volume.name, volume.target, if volume.read_only { " ro" } else { "" })
        };
        Ok(mount(&data, &image, &wishes)?.into_iter().map(shown).collect())
    }

    #[test]
    fn volumes_of_the_image_that_are_not_covered_become_volumes() {
        let data = [("data", "/var/lib/x")];
        assert_eq!(plan(&data, &["/var/lib/x", "var/lib/x/sub/"], &[]).unwrap(), ["data /var/lib/x"]);
        assert_eq!(plan(&data, &["/logs", "/var/lib"], &[]).unwrap(), ["logs /logs", "var-lib /var/lib", "data /var/lib/x"]);
        assert_eq!(plan(&[], &["/a/b", "/a", "/a-b"], &[]).unwrap(), ["a /a", "a-b /a-b"]);
        assert_eq!(
            plan(&[], &["/a-b", "/a/b", "/A.B", "/ü"], &[]).unwrap(),
            ["a-b /A.B", "a-b-2 /a-b", "a-b-3 /a/b", "volume /ü"]
        );
        for bad in ["/", "/proc/x", "/a/../b", "/a\n"] {
            assert!(plan(&[], &[bad], &[]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_users_directories_stand_in_for_volumes_or_come_beside_them() {
        let data = [("data", "/data")];
        assert_eq!(plan(&data, &[], &["data=/big:ro"]).unwrap(), ["data /data <- /big ro"]);
        assert_eq!(
            plan(&data, &[], &["/big:/data", "/etc/x:/conf/x:ro"]).unwrap(),
            ["conf-x /conf/x <- /etc/x ro", "data /data <- /big"]
        );
        assert_eq!(plan(&data, &["/logs"], &["logs=/l", "logs=/m"]).unwrap(), ["data /data", "logs /logs <- /m"]);
        let error = plan(&data, &["/logs"], &["dat=/x"]).unwrap_err();
        assert_eq!(error.find_hint(), Some("did you mean `data`? volumes: data (/data), logs (/logs)"));
    }
}
