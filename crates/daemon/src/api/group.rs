//! Who else may use the API: the members of one group of the system, when the configuration names one. Read from the
//! system's own tables at the start; nobody is looked up over the network.

use crate::exit::{Code, Failure};
use std::collections::BTreeSet;
use std::fs;

/// A group's number and its members' user numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its number; it also covers those whose primary group it is.
    pub gid: u32,
    /// The users it lists.
    pub uids: BTreeSet<u32>,
}

impl Group {
    /// The group of that name; nothing for the empty name.
    ///
    /// # Errors
    /// The system has no such group.
    pub fn find(name: &str) -> Result<Option<Group>, Failure> {
        if name.is_empty() {
            return Ok(None);
        }
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        parse(name, &groups, &users).map(Some).ok_or_else(|| {
            Failure::new(Code::Config, format!("api.group: this machine has no group {name:?}"))
                .next("name one from /etc/group, or leave it empty")
        })
    }

    /// Whether somebody with these numbers is in it.
    pub fn has(&self, uid: u32, gid: u32) -> bool {
        gid == self.gid || self.uids.contains(&uid)
    }
}

fn parse(name: &str, groups: &str, users: &str) -> Option<Group> {
    let line = groups.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    let gid = fields.next()?.parse().ok()?;
    let members: BTreeSet<&str> =
        fields.next().unwrap_or("").split(',').filter(|name| !name.is_empty()).collect();
    let uid_of = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        members.contains(name).then(|| fields.nth(1)?.parse().ok())?
    };
    Some(Group { gid, uids: users.lines().filter_map(uid_of).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_its_number_and_its_listed_members() {
        let groups = "root:x:0:\noperators:x:70:anna,ben\nother:x:71:carl\n";
        let users = "root:x:0:0::/root:/bin/sh\nanna:x:1001:1001::/:/bin/sh\nben:x:1002:70::/:/bin/sh\ncarl:x:1003:71::/:/bin/sh\n";
        let group = parse("operators", groups, users).expect("there");
        assert_eq!(group, Group { gid: 70, uids: BTreeSet::from([1001, 1002]) });
        assert!(group.has(1001, 1001) && group.has(5, 70));
        assert!(!group.has(1003, 71));
        assert_eq!(parse("nobody-has-this", groups, users), None);
    }

    #[test]
    fn no_name_means_no_group_and_an_unknown_one_is_an_error() {
        assert_eq!(Group::find("").expect("fine"), None);
        assert_eq!(Group::find("no-such-group-here").expect_err("unknown").code, Code::Config);
    }
}
