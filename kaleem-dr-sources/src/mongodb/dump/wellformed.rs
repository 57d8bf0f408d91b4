//! Checks that bytes are a well-formed BSON document: every element at every level, without
//! decoding.
//!
//! The specification is bsonspec.org, version 1.1. Strings that are not UTF-8 are reported
//! separately from malformed data: servers store and return such strings, and a restore writes the
//! same bytes.

/// Limit for the nesting depth. Servers store 100 levels and accept 200 in a message.
const DEEPEST: usize = 200;

/// A defect in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// Offset in the document, in bytes.
    pub(crate) at: usize,
    pub(crate) why: String,
}

/// Checks a whole document. Returns the offset of the first string that is not UTF-8, if there is
/// one.
///
/// # Errors
/// The first offset at which the bytes are not BSON.
pub(crate) fn check(document: &[u8]) -> Result<Option<usize>, Flaw> {
    let mut walk = Walk { bytes: document, at: 0, not_utf8: None };
    walk.document(1)?;
    if walk.at == document.len() {
        Ok(walk.not_utf8)
    } else {
        Err(walk.flaw("the document ends before its bytes do"))
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    not_utf8: Option<usize>,
}

impl<'a> Walk<'a> {
    fn flaw(&self, why: impl Into<String>) -> Flaw {
        Flaw { at: self.at, why: why.into() }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Flaw> {
        match self.bytes[self.at..].get(..length) {
            Some(taken) => {
                self.at += length;
                Ok(taken)
            }
            None => Err(self.flaw(format!(
                "{length} bytes are needed, {} are left",
                self.bytes.len() - self.at
            ))),
        }
    }

    fn byte(&mut self) -> Result<u8, Flaw> {
        Ok(self.take(1)?[0])
    }

    fn length(&mut self) -> Result<usize, Flaw> {
        let mut length = [0; 4];
        length.copy_from_slice(self.take(4)?);
        usize::try_from(i32::from_le_bytes(length))
            .map_err(|_| Flaw { at: self.at - 4, why: "a length is negative".to_owned() })
    }

    fn text(&mut self, bytes: &[u8], at: usize) {
        if self.not_utf8.is_none() && std::str::from_utf8(bytes).is_err() {
            self.not_utf8 = Some(at);
        }
    }

    /// A string that ends with the first NUL.
    fn name(&mut self) -> Result<(), Flaw> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.iter().position(|byte| *byte == 0) else {
            return Err(self.flaw("a name is not terminated"));
        };
        let at = self.at;
        self.at += end + 1;
        self.text(&rest[..end], at);
        Ok(())
    }

    /// A string that begins with its length, which includes the final NUL.
    fn string(&mut self) -> Result<(), Flaw> {
        let length = self.length()?;
        let at = self.at;
        match self.take(length)?.split_last() {
            Some((0, text)) => {
                self.text(text, at);
                Ok(())
            }
            _ => Err(Flaw { at, why: "a string does not end at its declared length".to_owned() }),
        }
    }

    fn document(&mut self, depth: usize) -> Result<(), Flaw> {
        if depth > DEEPEST {
            return Err(self.flaw(format!("documents are nested more than {DEEPEST} levels deep")));
        }
        let begin = self.at;
        let length = self.length()?;
        let Some(end) = begin.checked_add(length).filter(|end| *end <= self.bytes.len()) else {
            return Err(Flaw {
                at: begin,
                why: format!("a document has a declared length of {length} bytes"),
            });
        };
        loop {
            let kind_at = self.at;
            let kind = self.byte()?;
            if kind == 0 {
                break;
            }
            self.name()?;
            self.value(kind, kind_at, depth)?;
            if self.at >= end {
                return Err(self.flaw("an element extends past the end of its document"));
            }
        }
        if self.at == end {
            Ok(())
        } else {
            Err(self.flaw("a document does not end at its declared length"))
        }
    }

    fn value(&mut self, kind: u8, kind_at: usize, depth: usize) -> Result<(), Flaw> {
        match kind {
            // Double, date, timestamp, 64-bit integer.
            0x01 | 0x09 | 0x11 | 0x12 => self.take(8).map(drop),
            // String, code, symbol.
            0x02 | 0x0d | 0x0e => self.string(),
            0x03 | 0x04 => self.document(depth + 1),
            0x05 => self.binary(),
            // Undefined, null, min key, max key.
            0x06 | 0x0a | 0xff | 0x7f => Ok(()),
            0x07 => self.take(12).map(drop),
            0x08 => match self.byte()? {
                0 | 1 => Ok(()),
                other => Err(Flaw { at: self.at - 1, why: format!("a boolean is {other}") }),
            },
            // A regular expression: pattern and options.
            0x0b => {
                self.name()?;
                self.name()
            }
            // A DBPointer: namespace and object id.
            0x0c => {
                self.string()?;
                self.take(12).map(drop)
            }
            // Code with its scope.
            0x0f => {
                let begin = self.at;
                let length = self.length()?;
                self.string()?;
                self.document(depth + 1)?;
                if self.at - begin == length {
                    Ok(())
                } else {
                    Err(self.flaw("code with a scope does not end at its declared length"))
                }
            }
            0x10 => self.take(4).map(drop),
            0x13 => self.take(16).map(drop),
            other => Err(Flaw { at: kind_at, why: format!("there is no type {other:#04x}") }),
        }
    }

    fn binary(&mut self) -> Result<(), Flaw> {
        let length = self.length()?;
        let subtype = self.byte()?;
        let at = self.at;
        let bytes = self.take(length)?;
        // The old subtype repeats its length inside.
        let inner = bytes
            .first_chunk::<4>()
            .and_then(|inner| usize::try_from(i32::from_le_bytes(*inner)).ok());
        if subtype == 2 && inner.is_none_or(|inner| inner != length - 4) {
            return Err(Flaw {
                at,
                why: "binary data of the old subtype has two different lengths".to_owned(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bson::{Binary, Bson, Document, JavaScriptCodeWithScope, Regex, doc, spec::BinarySubtype};

    use super::*;

    fn every_type() -> Vec<u8> {
        let binary =
            |subtype, bytes: &[u8]| Bson::Binary(Binary { subtype, bytes: bytes.to_vec() });
        bson::serialize_to_vec(&doc! {
            "double": 1.5, "text": "naïve", "empty": "", "nested": { "array": [1, { "deep": [] }, "x"] },
            "binary": binary(BinarySubtype::Generic, b"ab"), "old": binary(BinarySubtype::BinaryOld, b"cd"),
            "undefined": Bson::Undefined, "id": bson::oid::ObjectId::from_bytes([7; 12]), "yes": true, "no": false,
            "date": bson::DateTime::from_millis(-1), "null": Bson::Null,
            "regex": Bson::RegularExpression(Regex { pattern: "a.b".try_into().unwrap(), options: "ix".try_into().unwrap() }),
            "code": Bson::JavaScriptCode("f()".into()), "symbol": Bson::Symbol("s".into()), "int": 1_i32, "long": 1_i64,
            "scoped": Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code: "g()".into(), scope: doc! { "x": 1 } }),
            "stamp": Bson::Timestamp(bson::Timestamp { time: 1, increment: 2 }), "decimal": Bson::Decimal128("1.50".parse().unwrap()),
            "min": Bson::MinKey, "max": Bson::MaxKey,
        })
        .unwrap()
    }

    #[test]
    fn every_type_is_well_formed() {
        assert_eq!(check(&every_type()), Ok(None));
        let mut pointer = b"\0\0\0\0\x0cp\0\x05\0\0\0d.ns\0".to_vec();
        pointer.extend_from_slice(&[3; 13]);
        let end = pointer.len() - 1;
        pointer[end] = 0;
        pointer[0] = u8::try_from(pointer.len()).unwrap();
        assert_eq!(check(&pointer), Ok(None));
    }

    #[test]
    fn whatever_is_taken_can_be_decoded_and_no_change_of_a_byte_is_a_panic() {
        let whole = every_type();
        let mut refused = 0;
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                match check(&changed) {
                    Ok(None) => {
                        bson::deserialize_from_slice::<Document>(&changed)
                            .unwrap_or_else(|error| panic!("byte {at}, bit {bit}: {error}"));
                    }
                    Ok(Some(_)) => {}
                    Err(flaw) => {
                        assert!(flaw.at <= whole.len());
                        refused += 1;
                    }
                }
            }
        }
        assert!(refused > whole.len(), "{refused}");
        for length in 0..whole.len() {
            assert!(check(&whole[..length]).is_err(), "{length}");
        }
        assert!(check(&[&whole[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_text_that_is_not_utf8_is_reported_but_not_a_flaw() {
        let mut odd = bson::serialize_to_vec(&doc! { "a": 1, "text": "xyz" }).unwrap();
        let at = odd.len() - 5;
        odd[at] = 0xff;
        assert_eq!(check(&odd), Ok(Some(at)));
    }

    #[test]
    fn nesting_without_end_is_refused() {
        let nested = |levels| {
            let mut document = doc! {};
            for _ in 1..levels {
                document = doc! { "n": document };
            }
            bson::serialize_to_vec(&document).unwrap()
        };
        assert_eq!(check(&nested(DEEPEST)), Ok(None));
        assert!(check(&nested(DEEPEST + 1)).unwrap_err().why.contains("nested"));
    }
}
