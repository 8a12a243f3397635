//! Inputs other than the image, as described in cards: `[input.more.NAME]`.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// More elements than any published model's list has.
const MAX_VALUES: usize = 10_000;

/// More axes than any input has.
const MAX_AXES: usize = 8;

/// The content of an input other than the image.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct MoreInputCard {
    /// The elements for one image in order; a single one fills the whole input.
    #[serde(deserialize_with = "one_or_many")]
    pub value: Vec<InputValue>,
    /// Sizes of the axes; by default as the model declares them. An open first axis is the batch axis.
    #[serde(default, deserialize_with = "axes")]
    pub shape: Option<Vec<InputAxis>>,
}

/// An element of an input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InputValue {
    /// The same for every image.
    Number(f32),
    /// Width of the view, a frame or a part of one, in whole pixels.
    FrameWidth,
    /// Its height.
    FrameHeight,
    /// Width of the model's input, including letterbox padding.
    InputWidth,
    /// Its height.
    InputHeight,
    /// Model pixels per frame pixel, horizontally.
    ScaleX,
    /// The same vertically.
    ScaleY,
}

impl fmt::Display for InputValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InputValue::Number(number) => number.fmt(f),
            word => {
                let place = Self::OF_PICTURE.iter().position(|known| known == word);
                f.write_str(place.and_then(|place| Self::WORDS.get(place)).copied().unwrap_or_default())
            }
        }
    }
}

impl InputValue {
    const WORDS: &[&str] = &["frame_width", "frame_height", "input_width", "input_height", "scale_x", "scale_y"];
    /// The value of a keyword.
    const OF_PICTURE: &[Self] = &[Self::FrameWidth, Self::FrameHeight, Self::InputWidth, Self::InputHeight, Self::ScaleX, Self::ScaleY];

    fn of_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().position(|known| *known == word).and_then(|place| Self::OF_PICTURE.get(place).copied())
    }

    /// Whether it differs between images.
    pub(crate) fn is_of_image(self) -> bool {
        self.is_frame_size() || self.is_scale()
    }

    /// Whether it contains the frame's size.
    pub(crate) fn is_frame_size(self) -> bool {
        matches!(self, InputValue::FrameWidth | InputValue::FrameHeight)
    }

    /// Whether it contains the scale of the frame.
    pub(crate) fn is_scale(self) -> bool {
        matches!(self, InputValue::ScaleX | InputValue::ScaleY)
    }
}

/// Size of an axis of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputAxis {
    /// This many.
    Size(u32),
    /// The batch size; the first axis only.
    Batch,
    /// Width of the model's input.
    InputWidth,
    /// Its height.
    InputHeight,
}

impl InputAxis {
    const WORDS: &[&str] = &["batch", "input_width", "input_height"];

    fn of_word(word: &str) -> Option<Self> {
        match word {
            "batch" => Some(InputAxis::Batch),
            "input_width" => Some(InputAxis::InputWidth),
            "input_height" => Some(InputAxis::InputHeight),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for InputValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = InputValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number, or one of {}", InputValue::WORDS.join(", "))
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<InputValue, E> {
                InputValue::of_word(word).ok_or_else(|| E::unknown_variant(word, InputValue::WORDS))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<InputValue, E> {
                Ok(InputValue::Number(f32::from(u8::from(value))))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<InputValue, E> {
                // Range of integers that float32 holds exactly.
                let is_exact = value.unsigned_abs() <= 1 << 24;
                let number = InputValue::Number(value as f32);
                if is_exact { Ok(number) } else { Err(E::custom("an integer from -16777216 to 16777216 is expected")) }
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<InputValue, E> {
                let number = value as f32;
                if number.is_finite() { Ok(InputValue::Number(number)) } else { Err(E::custom("a finite number is expected")) }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for InputAxis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = InputAxis;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a size from 1 to 65536, or one of {}", InputAxis::WORDS.join(", "))
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<InputAxis, E> {
                InputAxis::of_word(word).ok_or_else(|| E::unknown_variant(word, InputAxis::WORDS))
            }

            fn visit_i64<E: de::Error>(self, size: i64) -> Result<InputAxis, E> {
                let in_range = u32::try_from(size).ok().filter(|size| (1..=65_536).contains(size));
                in_range.map(InputAxis::Size).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(size), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// One value, or a list of them.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<InputValue>, D::Error> {
    struct Visitor;
    impl<'de> de::Visitor<'de> for Visitor {
        type Value = Vec<InputValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a number, one of {}, or a list of these", InputValue::WORDS.join(", "))
        }

        fn visit_str<E: de::Error>(self, word: &str) -> Result<Vec<InputValue>, E> {
            InputValue::deserialize(de::value::StrDeserializer::new(word)).map(|value| vec![value])
        }

        fn visit_bool<E: de::Error>(self, value: bool) -> Result<Vec<InputValue>, E> {
            InputValue::deserialize(de::value::BoolDeserializer::new(value)).map(|value| vec![value])
        }

        fn visit_i64<E: de::Error>(self, value: i64) -> Result<Vec<InputValue>, E> {
            InputValue::deserialize(de::value::I64Deserializer::new(value)).map(|value| vec![value])
        }

        fn visit_f64<E: de::Error>(self, value: f64) -> Result<Vec<InputValue>, E> {
            InputValue::deserialize(de::value::F64Deserializer::new(value)).map(|value| vec![value])
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<InputValue>, A::Error> {
            let mut values = Vec::new();
            while let Some(value) = list.next_element()? {
                values.push(value);
            }
            if (1..=MAX_VALUES).contains(&values.len()) { Ok(values) } else { Err(de::Error::custom("1 to 10000 values are expected")) }
        }
    }
    deserializer.deserialize_any(Visitor)
}

fn axes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<InputAxis>>, D::Error> {
    let axes = Vec::<InputAxis>::deserialize(deserializer)?;
    if axes.len() > MAX_AXES {
        return Err(de::Error::custom("at most 8 axes are expected"));
    }
    if axes.iter().skip(1).any(|axis| *axis == InputAxis::Batch) {
        return Err(de::Error::custom("'batch' is the first axis only"));
    }
    Ok(Some(axes))
}
