//! `TensorProto`s of float32 as float16.

use half::f16;

use super::super::wire::{Value, WireError, fields, write_bytes, write_number};

mod field {
    pub(super) const DIMS: u32 = 1;
    pub(super) const DATA_TYPE: u32 = 2;
    pub(super) const FLOAT_DATA: u32 = 4;
    pub(super) const NAME: u32 = 8;
    pub(super) const RAW_DATA: u32 = 9;
}

/// `TensorProto.DataType.FLOAT16`.
pub(super) const ELEM_HALF: u64 = 10;

/// Numbers that float16 cannot hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rounding {
    pub(super) clamped: u64,
    pub(super) raised: u64,
}

impl Rounding {
    /// The nearest float16; finite numbers stay finite, and only zero becomes zero: divisors must not vanish.
    fn half(&mut self, value: f32) -> f16 {
        let rounded = f16::from_f32(value);
        if rounded.is_infinite() && value.is_finite() {
            self.clamped += 1;
            return if value > 0.0 { f16::MAX } else { f16::MIN };
        }
        if value != 0.0 && rounded.to_bits() & 0x7fff == 0 {
            self.raised += 1;
            return f16::from_bits(if value > 0.0 { 1 } else { 0x8001 });
        }
        rounded
    }
}

/// The element type of a tensor.
pub(super) fn elem_type(tensor: &[u8]) -> Result<u64, WireError> {
    let mut elem_type = 0;
    for field in fields(tensor) {
        let field = field?;
        if field.number == field::DATA_TYPE {
            elem_type = field.varint()?;
        }
    }
    Ok(elem_type)
}

/// A float32 tensor as float16, under a name.
pub(super) fn half(tensor: &[u8], name: &str, rounding: &mut Rounding) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(tensor.len() / 2 + 64);
    let mut data: Vec<u8> = Vec::with_capacity(tensor.len() / 2);
    let mut take = |bytes: &[u8]| {
        let (floats, _) = bytes.as_chunks::<4>();
        data.extend(floats.iter().flat_map(|four| rounding.half(f32::from_le_bytes(*four)).to_le_bytes()));
    };
    for field in fields(tensor) {
        let field = field?;
        match (field.number, field.value) {
            (field::DIMS, _) => out.extend_from_slice(field.raw),
            (field::RAW_DATA | field::FLOAT_DATA, Value::Bytes(bytes)) => take(bytes),
            (field::FLOAT_DATA, Value::Fixed(bytes)) => take(bytes),
            _ => {}
        }
    }
    write_number(field::DATA_TYPE, ELEM_HALF, &mut out);
    write_bytes(field::NAME, name.as_bytes(), &mut out);
    write_bytes(field::RAW_DATA, &data, &mut out);
    Ok(out)
}

/// The same tensor under another name.
pub(super) fn renamed(tensor: &[u8], name: &str) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(tensor.len() + name.len());
    for field in fields(tensor) {
        let field = field?;
        if field.number != field::NAME {
            out.extend_from_slice(field.raw);
        }
    }
    write_bytes(field::NAME, name.as_bytes(), &mut out);
    Ok(out)
}

/// A float32 tensor of `floats`: one axis, or none for a single number.
pub(super) fn of_floats(floats: &[u8], is_list: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(floats.len() + 16);
    if is_list {
        write_number(field::DIMS, (floats.len() / 4) as u64, &mut out);
    }
    write_number(field::DATA_TYPE, super::super::ELEM_FLOAT, &mut out);
    write_bytes(field::RAW_DATA, floats, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_finite_and_do_not_vanish() {
        let mut rounding = Rounding::default();
        let rounded: Vec<f32> = [1e6, -1e6, 1e-12, -1e-12, 0.0, 1.5, f32::NEG_INFINITY, 65504.0]
            .into_iter()
            .map(|value| rounding.half(value).to_f32())
            .collect();
        let smallest = 2.0_f32.powi(-24);
        assert_eq!(rounded, [65504.0, -65504.0, smallest, -smallest, 0.0, 1.5, f32::NEG_INFINITY, 65504.0]);
        assert_eq!((rounding.clamped, rounding.raised), (2, 2));
        assert!(rounding.half(f32::NAN).is_nan());
    }

    #[test]
    fn both_encodings_of_floats_are_read() {
        let values = [0.5_f32, -2.0, 3.0].map(f32::to_le_bytes).concat();
        let mut packed = Vec::new();
        write_number(field::DIMS, 3, &mut packed);
        write_bytes(field::FLOAT_DATA, &values, &mut packed);
        let raw = of_floats(&values, true);
        let mut rounding = Rounding::default();
        let expected = [0.5_f32, -2.0, 3.0].map(|value| f16::from_f32(value).to_le_bytes()).concat();
        for tensor in [packed, raw] {
            let half = half(&tensor, "w", &mut rounding).expect("own tensor");
            assert!(half.ends_with(&expected));
            assert_eq!(elem_type(&half), Ok(ELEM_HALF));
        }
    }
}
