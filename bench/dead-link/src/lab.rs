//! Two network namespaces and a veth pair, for as long as the value lives. It knows nothing of nodes.

use anyhow::{Context, Result, ensure};
use std::process::{Command, Stdio};

/// The laboratory.
pub struct Lab {
    /// The namespaces.
    pub names: [String; 2],
    /// Their addresses.
    pub addresses: [String; 2],
}

/// Whether namespaces can be made.
pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.trim_ascii() == b"0")
}

impl Lab {
    /// Makes it.
    pub fn new() -> Result<Lab> {
        let mark = std::process::id() % 10_000;
        let lab = Lab {
            names: [format!("pkdead{mark}a"), format!("pkdead{mark}b")],
            addresses: ["10.213.7.1".to_owned(), "10.213.7.2".to_owned()],
        };
        let (here, there) = (format!("pk{mark}a"), format!("pk{mark}b"));
        for name in &lab.names {
            ip(&["netns", "add", name])?;
        }
        ip(&[
            "link",
            "add",
            &here,
            "netns",
            &lab.names[0],
            "type",
            "veth",
            "peer",
            "name",
            &there,
            "netns",
            &lab.names[1],
        ])?;
        for (name, (device, address)) in lab.names.iter().zip([&here, &there].into_iter().zip(&lab.addresses))
        {
            ip(&["-n", name, "addr", "add", &format!("{address}/24"), "dev", device])?;
            ip(&["-n", name, "link", "set", device, "up"])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        Ok(lab)
    }

    /// From now on every packet between the two vanishes.
    pub fn cut(&self) -> Result<()> {
        let rules = "table inet dead {\n\
                     chain in { type filter hook input priority 0; policy drop; }\n\
                     chain out { type filter hook output priority 0; policy drop; }\n}";
        run(Command::new("ip").args(["netns", "exec", &self.names[0], "nft"]).arg(rules))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.names {
            // The veth pair goes with its namespaces.
            let _gone = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
        }
    }
}

fn ip(args: &[&str]) -> Result<()> {
    run(Command::new("ip").args(args))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?} failed");
    Ok(())
}
