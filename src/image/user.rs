//! Who a program runs as: `USER` of an image, `--user` of the command line, looked up in passwd(5) and group(5) texts.

use crate::error::{Error, Result};
use std::str::FromStr;

/// `USER[:GROUP]`, each a name or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserText {
    user: Id,
    group: Option<Id>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Id {
    Number(u32),
    Name(String),
}

/// Who that is in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id, if the text or the user's entry says it.
    pub gid: Option<u32>,
    /// Further groups of the user; none when a group was named.
    pub groups: Vec<u32>,
    /// Home directory of the user's entry.
    pub home: Option<String>,
}

impl FromStr for UserText {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let id = |text: &str| {
            let odd = text.is_empty() || text.contains([':', '\n', '\0']);
            let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>());
            match number {
                _ if odd => None,
                // The kernel's "no id" (user_namespaces(7)) is nobody.
                Some(number) => number.ok().filter(|number| *number != u32::MAX).map(Id::Number),
                None => Some(Id::Name(text.to_owned())),
            }
        };
        let wrong = || {
            Error::usage(format!("`{}` is no user", text.escape_debug()))
                .hint("write USER or USER:GROUP, each a name or a number")
        };
        Ok(UserText { user: id(user).ok_or_else(wrong)?, group: group.map(|group| id(group).ok_or_else(wrong)).transpose()? })
    }
}

/// The fields of each line that has at least `least`.
fn lines(text: &[u8], least: usize) -> impl Iterator<Item = Vec<&str>> {
    let line = |line| std::str::from_utf8(line).ok().map(|line: &str| line.split(':').collect::<Vec<_>>());
    text.split(|byte| *byte == b'\n').filter_map(line).filter(move |fields| fields.len() >= least)
}

impl UserText {
    /// Whether a name is in it, so that the container's files are needed.
    #[must_use]
    pub fn has_name(&self) -> bool {
        matches!(self.user, Id::Name(_)) || matches!(self.group, Some(Id::Name(_)))
    }

    /// The user of that number.
    #[must_use]
    pub fn number(uid: u32) -> Self {
        UserText { user: Id::Number(uid), group: None }
    }

    /// Looks it up in the texts of /etc/passwd and /etc/group.
    ///
    /// # Errors
    /// Not found, when a name is in neither.
    pub fn look_up(&self, passwd: &[u8], group: &[u8]) -> Result<Identity> {
        // name:password:uid:gid:comment:home:shell
        let entry = lines(passwd, 6).find(|fields| match &self.user {
            Id::Name(name) => fields[0] == name,
            Id::Number(uid) => fields[2].parse() == Ok(*uid),
        });
        let uid = match (&self.user, &entry) {
            (Id::Number(uid), _) => Some(*uid),
            (Id::Name(_), Some(fields)) => fields[2].parse().ok(),
            (Id::Name(_), None) => None,
        };
        let missing = |kind: &str, id: &Id, file: &str| match id {
            Id::Name(name) => Error::not_found(format!("the image has no {kind} `{}`", name.escape_debug()))
                .hint(format!("name one of its `{file}`, or a number")),
            Id::Number(number) => Error::not_found(format!("the image has no {kind} {number}")),
        };
        let uid = uid.ok_or_else(|| missing("user", &self.user, "/etc/passwd"))?;
        // name:password:gid:members
        let (gid, groups) = match &self.group {
            Some(Id::Number(gid)) => (Some(*gid), Vec::new()),
            Some(id @ Id::Name(name)) => {
                let found = lines(group, 3).find(|fields| fields[0] == name).and_then(|fields| fields[2].parse().ok());
                (Some(found.ok_or_else(|| missing("group", id, "/etc/group"))?), Vec::new())
            }
            None => {
                let name = entry.as_ref().map(|fields| fields[0]);
                let has = |fields: &Vec<&str>| name.is_some_and(|name| fields[3].split(',').any(|member| member == name));
                let groups = lines(group, 4).filter(has).filter_map(|fields| fields[2].parse().ok()).collect();
                (entry.as_ref().and_then(|fields| fields[3].parse().ok()), groups)
            }
        };
        let home = entry.map(|fields| fields[5].to_owned()).filter(|home| home.starts_with('/'));
        Ok(Identity { uid, gid, groups, home })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nbroken:x\npostgres:x:999:998::/var/lib/pg:/bin/sh\n\xff:x:5:5::/:\n";
    const GROUP: &[u8] = b"root:x:0:\nssl:x:101:other,postgres\npostgres:x:998:\n";

    fn look_up(text: &str) -> Result<Identity> {
        text.parse::<UserText>()?.look_up(PASSWD, GROUP)
    }

    #[test]
    fn names_and_numbers_are_looked_up() {
        let postgres = Identity { uid: 999, gid: Some(998), groups: vec![101], home: Some("/var/lib/pg".into()) };
        assert_eq!(look_up("postgres").unwrap(), postgres);
        assert_eq!(look_up("999").unwrap(), postgres);
        let other_group = Identity { gid: Some(101), groups: vec![], ..postgres };
        assert_eq!(look_up("postgres:ssl").unwrap(), other_group);
        assert_eq!(look_up("999:101").unwrap(), other_group);
        assert_eq!(look_up("5000").unwrap(), Identity { uid: 5000, gid: None, groups: vec![], home: None });
        assert_eq!(look_up("5000:7").unwrap().gid, Some(7));
    }

    #[test]
    fn who_is_not_there_is_not_found_and_what_is_no_user_is_misuse() {
        use crate::error::Kind;
        for absent in ["nobody", "postgres:none", "broken"] {
            assert_eq!(look_up(absent).unwrap_err().kind(), Kind::NotFound, "{absent}");
        }
        for wrong in ["", ":", "a:", ":a", "4294967295", "4294967296", "a:b:c", "a\nb"] {
            assert_eq!(look_up(wrong).unwrap_err().kind(), Kind::Usage, "{wrong:?}");
        }
    }
}
