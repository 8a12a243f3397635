//! Protocol-buffer wire format, read field by field and written back, so that whatever is not understood is kept byte for byte.
//!
//! Source: the Protocol Buffers encoding guide (varints, tags, length-delimited fields).

/// Why bytes are not a protocol-buffer message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireError {
    /// A field reaches beyond the end.
    CutShort,
    /// A number or tag that no encoder writes.
    Malformed,
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// 4 or 8 bytes of a fixed-width number.
    Fixed(&'a [u8]),
}

/// One field of a message, with its encoded bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    pub(crate) value: Value<'a>,
    /// Tag and value as they stand in the message.
    pub(crate) raw: &'a [u8],
}

impl<'a> Field<'a> {
    /// The bytes of a length-delimited field: a string or a message.
    pub(crate) fn bytes(&self) -> Result<&'a [u8], WireError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::Malformed),
        }
    }

    /// The number in a varint field.
    pub(crate) fn varint(&self) -> Result<u64, WireError> {
        match self.value {
            Value::Varint(number) => Ok(number),
            _ => Err(WireError::Malformed),
        }
    }
}

/// The fields of one message, in order. Nested messages stay bytes until requested; nothing recurses.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

pub(crate) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = read_field(self.rest);
        self.rest = match &field {
            Ok(field) => self.rest.get(field.raw.len()..).unwrap_or_default(),
            Err(_) => &[],
        };
        Some(field)
    }
}

fn read_field(message: &[u8]) -> Result<Field<'_>, WireError> {
    let (tag, after_tag) = read_varint(message)?;
    let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number)).ok_or(WireError::Malformed)?;
    let (value, rest) = match tag & 7 {
        0 => {
            let (value, rest) = read_varint(after_tag)?;
            (Value::Varint(value), rest)
        }
        1 => split(after_tag, 8).map(|(bytes, rest)| (Value::Fixed(bytes), rest))?,
        2 => {
            let (length, rest) = read_varint(after_tag)?;
            split(rest, length).map(|(bytes, rest)| (Value::Bytes(bytes), rest))?
        }
        5 => split(after_tag, 4).map(|(bytes, rest)| (Value::Fixed(bytes), rest))?,
        // Groups (3, 4) have never been part of ONNX.
        _ => return Err(WireError::Malformed),
    };
    let raw = message.get(..message.len() - rest.len()).ok_or(WireError::Malformed)?;
    Ok(Field { number, value, raw })
}

fn split(bytes: &[u8], length: u64) -> Result<(&[u8], &[u8]), WireError> {
    let length = usize::try_from(length).map_err(|_| WireError::CutShort)?;
    bytes.split_at_checked(length).ok_or(WireError::CutShort)
}

/// The number at the front, and what follows it.
pub(crate) fn read_varint(bytes: &[u8]) -> Result<(u64, &[u8]), WireError> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok((value, bytes.get(index + 1..).unwrap_or_default()));
        }
    }
    Err(if bytes.len() < 10 { WireError::CutShort } else { WireError::Malformed })
}

/// Appends a number.
pub(crate) fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a varint field.
pub(crate) fn write_number(field: u32, value: u64, out: &mut Vec<u8>) {
    write_varint(u64::from(field) << 3, out);
    write_varint(value, out);
}

/// Appends a length-delimited field: a string or a message.
pub(crate) fn write_bytes(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    write_varint(u64::from(field) << 3 | 2, out);
    write_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_read_back_as_written() {
        let mut message = Vec::new();
        write_number(1, 300, &mut message);
        write_bytes(7, b"graph", &mut message);
        write_number(15, u64::MAX, &mut message);
        let read: Vec<Field<'_>> = fields(&message).collect::<Result<_, _>>().expect("own message");
        assert_eq!(read.iter().map(|field| field.number).collect::<Vec<_>>(), [1, 7, 15]);
        assert_eq!(read[0].varint(), Ok(300));
        assert_eq!(read[1].bytes(), Ok(&b"graph"[..]));
        assert_eq!(read[2].varint(), Ok(u64::MAX));
        assert_eq!(read.iter().flat_map(|field| field.raw).copied().collect::<Vec<_>>(), message);
    }

    #[test]
    fn damage_is_an_error_and_ends_the_walk() {
        let mut message = Vec::new();
        write_bytes(7, &[0; 40], &mut message);
        for length in 1..message.len() {
            let walked: Vec<_> = fields(&message[..length]).collect();
            assert_eq!(walked.len(), 1);
            assert_eq!(walked[0].err(), Some(WireError::CutShort), "{length} bytes");
        }
        assert_eq!(fields(&[0xff; 12]).next().and_then(Result::err), Some(WireError::Malformed));
        assert_eq!(fields(&[0x03]).next().and_then(Result::err), Some(WireError::Malformed), "a group");
        assert_eq!(fields(&[0x00, 0x00]).next().and_then(Result::err), Some(WireError::Malformed), "field number 0");
    }
}
