//! Facts about a machine that matter for a restore on another one.

use std::{collections::BTreeSet, fs, path::Path};

use serde::{Deserialize, Serialize};

/// Limit for a file that is read for facts, in bytes.
const FILE_LIMIT_BYTES: u64 = 64 << 20;

/// Facts about a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Machine {
    /// Its host name.
    pub name: String,
    /// Its system, such as `Debian GNU/Linux 12 (bookworm)`.
    pub system: Option<String>,
    /// Its users, by id. Restored files have the ids of their owners.
    pub users: Vec<Account>,
    /// Its groups, by id.
    pub groups: Vec<Group>,
    /// Its file systems on disks and from servers, by path.
    pub mounts: Vec<Mount>,
    /// Its installed packages that contain services, by name. Empty without dpkg.
    pub packages: Vec<Package>,
}

/// A user of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id.
    pub id: u32,
    /// Id of the primary group.
    pub group: u32,
}

/// A group of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Group id.
    pub id: u32,
}

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Mount {
    /// Path of the mount point.
    pub path: String,
    /// Type of the file system: `ext4`, `nfs4`.
    pub kind: String,
    /// Device or server, without user data.
    pub device: String,
}

/// An installed package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Machine {
    /// Reads the facts of the machine with this root directory. What cannot be read is left out.
    /// Blocking.
    pub(super) fn of(root: &Path) -> Self {
        let read = |path: &str| text(&root.join(path)).unwrap_or_default();
        let mut users: Vec<Account> = read("etc/passwd").lines().filter_map(account).collect();
        users.sort_by(|a, b| (a.id, &a.name).cmp(&(b.id, &b.name)));
        let mut groups: Vec<Group> = read("etc/group").lines().filter_map(group).collect();
        groups.sort_by(|a, b| (a.id, &a.name).cmp(&(b.id, &b.name)));
        let mut mounts: Vec<Mount> = read("proc/self/mounts").lines().filter_map(mount).collect();
        mounts.sort_by(|a, b| a.path.cmp(&b.path));
        mounts.dedup();
        Self {
            name: crate::ground::host::name(),
            system: system(&read("etc/os-release")),
            users,
            groups,
            mounts,
            packages: packages(root, &read("var/lib/dpkg/status")),
        }
    }

    /// The facts of the machine that this runs on. Blocking.
    pub(crate) fn of_this() -> Self {
        Self::of(Path::new("/"))
    }

    /// The id of the user with this name.
    #[must_use]
    pub fn user_id(&self, name: &str) -> Option<u32> {
        self.users.iter().find(|user| user.name == name).map(|user| user.id)
    }
}

/// A text file of moderate size.
fn text(path: &Path) -> Option<String> {
    (fs::metadata(path).ok()?.len() <= FILE_LIMIT_BYTES)
        .then(|| fs::read(path).ok())
        .flatten()
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// A line of `/etc/passwd`: only name and ids.
fn account(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let id = fields.nth(1)?.parse().ok()?;
    Some(Account { name, id, group: fields.next()?.parse().ok()? })
}

/// A line of `/etc/group`: only name and id.
fn group(line: &str) -> Option<Group> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    Some(Group { name, id: fields.nth(1)?.parse().ok()? })
}

/// A line of `/proc/self/mounts`, if its file system is on a disk or comes from a server.
fn mount(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ');
    let (device, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
    let is_real = device.starts_with("/dev/") || device.contains(":/") || device.starts_with("//");
    let is_real = (is_real || matches!(kind, "zfs" | "btrfs")) && kind != "squashfs";
    // `user:password@server` of a network file system; `@` in a name of a device is rare and harmless.
    let device = device.rsplit('@').next().unwrap_or(device);
    is_real.then(|| Mount {
        path: path.replace("\\040", " "),
        kind: kind.to_owned(),
        device: device.to_owned(),
    })
}

fn system(os_release: &str) -> Option<String> {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches('"').to_owned())
}

/// The installed packages that contain a service, from dpkg's records.
fn packages(root: &Path, status: &str) -> Vec<Package> {
    let with_service = packages_with_service(&root.join("var/lib/dpkg/info"));
    let mut found: Vec<Package> = status
        .split("\n\n")
        .filter_map(|record| {
            let field = |name: &str| {
                record.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            let is_installed = field("Status")?.ends_with(" installed");
            let name =
                field("Package").filter(|name| is_installed && with_service.contains(*name))?;
            Some(Package { name: name.to_owned(), version: field("Version")?.to_owned() })
        })
        .collect();
    found.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    found.dedup();
    found
}

/// The packages whose list of files has a unit of systemd or a script in `/etc/init.d`.
fn packages_with_service(directory: &Path) -> BTreeSet<String> {
    let is_service = |line: &str| {
        line.starts_with("/etc/init.d/")
            || (line.contains("/systemd/system/") && line.ends_with(".service"))
    };
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?.strip_suffix(".list")?;
            let name = name.split(':').next().unwrap_or(name).to_owned();
            text(&path)?.lines().any(is_service).then_some(name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_below_a_root_and_without_passwords() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "etc/passwd",
            "root:canary:0:0:root:/root:/bin/sh\nmongodb:x:105:112::/:/bin/false\nbroken\n",
        );
        write("etc/group", "root:x:0:\nmongodb:x:112:\n");
        write("etc/os-release", "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n");
        write(
            "proc/self/mounts",
            "proc /proc proc rw 0 0\n/dev/vda1 / ext4 rw 0 0\nnas:/export /mnt/nas\\040one nfs4 rw 0 0\n\
             //u:canary@nas/x /mnt/x cifs rw 0 0\ntmpfs /run tmpfs rw 0 0\n",
        );
        write(
            "var/lib/dpkg/status",
            "Package: nginx\nStatus: install ok installed\nVersion: 1.22-1\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
             Package: bash\nStatus: install ok installed\nVersion: 5\n",
        );
        write("var/lib/dpkg/info/nginx.list", "/.\n/lib/systemd/system/nginx.service\n");
        write("var/lib/dpkg/info/gone.list", "/etc/init.d/gone\n");
        write("var/lib/dpkg/info/bash.list", "/bin/bash\n");
        let machine = Machine::of(root.path());
        assert_eq!(machine.user_id("mongodb"), Some(105));
        assert_eq!(machine.users.len(), 2);
        assert_eq!(machine.groups[1], Group { name: "mongodb".into(), id: 112 });
        let mounts: Vec<&str> = machine.mounts.iter().map(|mount| mount.path.as_str()).collect();
        assert_eq!(mounts, ["/", "/mnt/nas one", "/mnt/x"]);
        assert_eq!(machine.system.as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(machine.packages, [Package { name: "nginx".into(), version: "1.22-1".into() }]);
        assert!(!serde_json::to_string(&machine).unwrap().contains("canary"));
    }
}
