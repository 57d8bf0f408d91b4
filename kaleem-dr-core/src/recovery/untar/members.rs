//! The members of a tar stream: POSIX ustar and pax, GNU with its long names and sparse files.
//!
//! Written for archives from untrusted origins: a header is never trusted where it would cost memory, and damage is reported by
//! its byte offset and the last complete member.

use std::{collections::BTreeMap, ffi::OsString, fmt, io, os::unix::ffi::OsStringExt as _};

use super::{names::decode_attribute, number};

/// Size of a tar block, in bytes.
pub(crate) const BLOCK_BYTES: usize = 512;
/// Limit for the long names and pax headers before one member, in bytes: far beyond any path, and more than the attributes of any
/// file that we capture.
const EXTENSIONS_LIMIT_BYTES: u64 = 4 << 20;
/// Limit for the stretches of a sparse file.
const STRETCHES_LIMIT: usize = 1 << 16;

/// One member, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// The name as written in the archive.
    pub(crate) name: OsString,
    pub(crate) kind: MemberKind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Seconds and nanoseconds since 1970.
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(OsString, Vec<u8>)>,
    /// Length of a file, holes counted.
    pub(crate) size_bytes: u64,
    /// The stored stretches of a sparse file, in order; `None` if all of it is stored.
    pub(crate) stretches: Option<Vec<Stretch>>,
}

impl Member {
    /// Bytes of a file without its holes.
    pub(crate) fn stored_bytes(&self) -> u64 {
        let stretches = self.stretches.as_ref();
        stretches.map_or(self.size_bytes, |stretches| {
            stretches.iter().map(|stretch| stretch.size_bytes).sum()
        })
    }

    /// Bytes of its extended attributes, names counted.
    pub(crate) fn xattr_bytes(&self) -> usize {
        self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// The type of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MemberKind {
    File,
    Directory,
    Symlink(OsString),
    HardLink(OsString),
    Fifo,
    CharDevice(u64),
    BlockDevice(u64),
    /// A type that cannot be extracted, described in words.
    Other(String),
}

/// A stored stretch of a sparse file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) offset: u64,
    pub(crate) size_bytes: u64,
}

/// The position of and reason for damage in a tar stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Number of bytes read from the stream.
    pub(crate) offset_bytes: u64,
    pub(crate) last_whole: Option<String>,
    pub(crate) why: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it breaks at byte {} of the plain tar: {}; ", self.offset_bytes, self.why)?;
        match &self.last_whole {
            Some(name) => write!(f, "the last whole member is {name}"),
            None => f.write_str("no member of it is whole"),
        }
    }
}

/// Reads a tar stream member by member.
pub(crate) struct Members<R> {
    input: R,
    offset: u64,
    /// Unread bytes of the current member's content and of the padding after it.
    content: u64,
    padding: u64,
    current: Option<String>,
    last_whole: Option<String>,
}

/// The values in extension headers for the member after them.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    /// The last attribute with a name counts.
    xattrs: BTreeMap<OsString, Vec<u8>>,
    pax_sparse: bool,
}

impl<R: io::Read> Members<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, offset: 0, content: 0, padding: 0, current: None, last_whole: None }
    }

    /// The next member; the rest of the previous one is skipped. `None` after the end mark, once the whole stream has been read.
    pub(crate) fn next(&mut self) -> Result<Option<Member>, Damage> {
        self.skip()?;
        let mut extensions = Extensions::default();
        let mut extended = 0u64;
        loop {
            let block = self.block("a header")?;
            if block.iter().all(|&byte| byte == 0) {
                if extended > 0 {
                    return Err(self.damage("a name or pax header has no member behind it"));
                }
                self.end()?;
                return Ok(None);
            }
            let header = Header(&block);
            if !header.checksum_is_right() {
                return Err(self.damage("this is not a header: its checksum is wrong"));
            }
            let size = header
                .number(124..136)
                .ok_or_else(|| self.damage("a header contains no valid size"))?;
            if !matches!(header.kind(), b'L' | b'K' | b'x' | b'g') {
                return self.member(&header, size, extensions).map(Some);
            }
            // Headers count too, so that an endless series of them is rejected.
            extended = size.saturating_add(extended + BLOCK_BYTES as u64);
            if extended > EXTENSIONS_LIMIT_BYTES {
                let why = format!(
                    "names and pax headers of {extended} bytes before one member, longer than any legitimate ones"
                );
                return Err(self.damage(why));
            }
            let content = self.extension(size)?;
            match header.kind() {
                b'L' => extensions.name = Some(until_nul(content)),
                b'K' => extensions.link = Some(until_nul(content)),
                b'x' => extensions.read_pax(&content).map_err(|why| self.damage(why))?,
                // This applies to all members: we use none of it, and it needs no member after it.
                _ => extended -= size + BLOCK_BYTES as u64,
            }
        }
    }

    /// Continues to read the stored content of the current member. Returns 0 at its end.
    pub(crate) fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize, Damage> {
        let wanted = usize::try_from(self.content).unwrap_or(usize::MAX).min(buffer.len());
        self.fill(&mut buffer[..wanted], "the content of a member")?;
        self.content -= wanted as u64;
        Ok(wanted)
    }

    fn member(
        &mut self,
        header: &Header<'_>,
        size: u64,
        extensions: Extensions,
    ) -> Result<Member, Damage> {
        let name = extensions.name.unwrap_or_else(|| header.name());
        self.current = Some(String::from_utf8_lossy(&name).into_owned());
        let link = OsString::from_vec(extensions.link.unwrap_or_else(|| header.text(157..257)));
        let stored = extensions.size.unwrap_or(size);
        let device = || {
            let (major, minor) = (header.number(329..337)?, header.number(337..345)?);
            Some(nix::sys::stat::makedev(major, minor))
        };
        let number = |range| {
            header.number(range).ok_or_else(|| self.damage("a header contains an invalid number"))
        };
        let (mode, uid, gid) = (number(100..108)?, number(108..116)?, number(116..124)?);
        let mtime = header
            .signed(136..148)
            .ok_or_else(|| self.damage("a header contains no valid time"))?;
        let no_device = || self.damage("a device has no valid number");
        let kind = match header.kind() {
            _ if extensions.pax_sparse => MemberKind::Other("a sparse file in the pax form".into()),
            // Before POSIX, a directory was a file whose name ends with a slash.
            0 if name.ends_with(b"/") => MemberKind::Directory,
            0 | b'0' | b'7' | b'S' => MemberKind::File,
            b'1' => MemberKind::HardLink(link),
            b'2' => MemberKind::Symlink(link),
            b'3' => MemberKind::CharDevice(device().ok_or_else(no_device)?),
            b'4' => MemberKind::BlockDevice(device().ok_or_else(no_device)?),
            b'5' | b'D' => MemberKind::Directory,
            b'6' => MemberKind::Fifo,
            other => MemberKind::Other(format!(
                "of the unknown type `{}`",
                char::from(other).escape_default()
            )),
        };
        let mut member = Member {
            name: OsString::from_vec(name),
            kind,
            // The bits of the type do not belong here, but some tools write them.
            mode: u32::try_from(mode & 0o7777).unwrap_or_default(),
            uid: extensions.uid.unwrap_or(uid),
            gid: extensions.gid.unwrap_or(gid),
            mtime: extensions.mtime.unwrap_or((mtime, 0)),
            xattrs: extensions.xattrs.into_iter().collect(),
            size_bytes: stored,
            stretches: None,
        };
        if header.kind() == b'S' && member.kind == MemberKind::File {
            member.size_bytes = header
                .number(483..495)
                .ok_or_else(|| self.damage("a sparse file has no valid length"))?;
            member.stretches = Some(self.stretches(header, stored, member.size_bytes)?);
        }
        // A hard link has no content, whatever length its header repeats.
        self.content = if matches!(member.kind, MemberKind::HardLink(_)) { 0 } else { stored };
        self.padding = padding(self.content);
        Ok(member)
    }

    /// The map of a GNU sparse file, which continues in blocks after the header.
    fn stretches(
        &mut self,
        header: &Header<'_>,
        stored: u64,
        length: u64,
    ) -> Result<Vec<Stretch>, Damage> {
        let mut stretches = Vec::new();
        let mut block = *header.0;
        let (mut places, mut more_at) = (386..482, 482);
        loop {
            let map = Header(&block);
            for at in places.clone().step_by(24) {
                if block[at] == 0 {
                    break;
                }
                let stretch = (map.number(at..at + 12), map.number(at + 12..at + 24));
                let (Some(offset), Some(size_bytes)) = stretch else {
                    return Err(self.damage("the map of a sparse file contains an invalid number"));
                };
                stretches.push(Stretch { offset, size_bytes });
            }
            if block[more_at] == 0 {
                break;
            }
            if stretches.len() > STRETCHES_LIMIT {
                return Err(self.damage("the map of a sparse file is too long"));
            }
            block = self.block("the map of a sparse file")?;
            (places, more_at) = (0..504, 504);
        }
        let mut end = 0u64;
        let mut sum = 0u64;
        for stretch in &stretches {
            let next = stretch
                .offset
                .checked_add(stretch.size_bytes)
                .filter(|&next| stretch.offset >= end && next <= length);
            end = next.ok_or_else(|| self.damage("the map of a sparse file contradicts itself"))?;
            sum += stretch.size_bytes;
        }
        if sum == stored {
            Ok(stretches)
        } else {
            Err(self.damage("the map of a sparse file contradicts its size"))
        }
    }

    /// The content of an extension header, whose size is within the limit.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Damage> {
        let mut content = Vec::new();
        let mut left = size + padding(size);
        while left > 0 {
            content.extend_from_slice(&self.block("a name or pax header")?);
            left -= BLOCK_BYTES as u64;
        }
        content.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(content)
    }

    /// Reads to the end of the stream, so that a checksum after it is verified.
    fn end(&mut self) -> Result<(), Damage> {
        let second = self.block("the end mark")?;
        if second.iter().any(|&byte| byte != 0) {
            return Err(self.damage("an incomplete end mark is in the middle of it"));
        }
        let mut rest = vec![0; 64 << 10];
        loop {
            let read = match self.input.read(&mut rest) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.damage(error.to_string())),
            };
            if rest[..read].iter().any(|&byte| byte != 0) {
                return Err(self.damage("there is something behind its end mark"));
            }
            if read == 0 {
                return Ok(());
            }
            self.offset += read as u64;
        }
    }

    fn skip(&mut self) -> Result<(), Damage> {
        let mut buffer = [0; 16 << 10];
        while self.content + self.padding > 0 {
            let wanted = usize::try_from(self.content + self.padding)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            self.fill(&mut buffer[..wanted], "the content of a member")?;
            let of_content = self.content.min(wanted as u64);
            self.content -= of_content;
            self.padding -= wanted as u64 - of_content;
        }
        if let Some(current) = self.current.take() {
            self.last_whole = Some(current);
        }
        Ok(())
    }

    fn block(&mut self, what: &str) -> Result<[u8; BLOCK_BYTES], Damage> {
        let mut block = [0; BLOCK_BYTES];
        self.fill(&mut block, what)?;
        Ok(block)
    }

    fn fill(&mut self, buffer: &mut [u8], what: &str) -> Result<(), Damage> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => return Err(self.damage(format!("it ends where {what} should go on"))),
                Ok(read) => {
                    filled += read;
                    self.offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.damage(error.to_string())),
            }
        }
        Ok(())
    }

    pub(crate) fn damage(&self, why: impl Into<String>) -> Damage {
        Damage { offset_bytes: self.offset, last_whole: self.last_whole.clone(), why: why.into() }
    }
}

impl Extensions {
    /// Records of the form `LENGTH KEY=VALUE\n`, the length counting itself.
    fn read_pax(&mut self, mut records: &[u8]) -> Result<(), &'static str> {
        const BROKEN: &str = "a pax header is not well formed";
        while !records.is_empty() {
            let space = records.iter().take(20).position(|&byte| byte == b' ').ok_or(BROKEN)?;
            let length = std::str::from_utf8(&records[..space])
                .ok()
                .and_then(|text| text.parse::<usize>().ok())
                .ok_or(BROKEN)?;
            if length > records.len() || length < space + 2 || records[length - 1] != b'\n' {
                return Err(BROKEN);
            }
            let record = &records[space + 1..length - 1];
            records = &records[length..];
            let equals = record.iter().position(|&byte| byte == b'=').ok_or(BROKEN)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let whole = || {
                std::str::from_utf8(value)
                    .ok()
                    .and_then(|text| text.parse::<u64>().ok())
                    .ok_or(BROKEN)
            };
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(whole()?),
                b"uid" => self.uid = Some(whole()?),
                b"gid" => self.gid = Some(whole()?),
                b"mtime" => {
                    self.mtime =
                        Some(std::str::from_utf8(value).ok().and_then(number::time).ok_or(BROKEN)?);
                }
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        self.xattrs.insert(decode_attribute(name), value.to_vec());
                    }
                    self.pax_sparse |= key.starts_with(b"GNU.sparse.");
                }
            }
        }
        Ok(())
    }
}

/// Bytes up to the next block.
pub(crate) fn padding(size: u64) -> u64 {
    let over = size % BLOCK_BYTES as u64;
    if over == 0 { 0 } else { BLOCK_BYTES as u64 - over }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// A header block.
struct Header<'a>(&'a [u8; BLOCK_BYTES]);

impl Header<'_> {
    fn kind(&self) -> u8 {
        self.0[156]
    }

    fn text(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        until_nul(self.0[range].to_vec())
    }

    fn number(&self, range: std::ops::Range<usize>) -> Option<u64> {
        u64::try_from(self.signed(range)?).ok()
    }

    fn signed(&self, range: std::ops::Range<usize>) -> Option<i64> {
        number::field(&self.0[range])
    }

    fn name(&self) -> Vec<u8> {
        let name = self.text(0..100);
        // GNU keeps other things where POSIX keeps the beginning of a long name.
        let prefix = if &self.0[257..263] == b"ustar\0" { self.text(345..500) } else { Vec::new() };
        if prefix.is_empty() { name } else { [prefix, name].join(&b'/') }
    }

    /// Old writers summed signed bytes.
    fn checksum_is_right(&self) -> bool {
        let Some(written) = self.signed(148..156) else { return false };
        let bytes = || {
            self.0
                .iter()
                .enumerate()
                .map(|(at, &byte)| if (148..156).contains(&at) { b' ' } else { byte })
        };
        let unsigned: i64 = bytes().map(i64::from).sum();
        let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
        written == unsigned || written == signed
    }
}
