//! Inputs other than the image: sizes, factors and constants, filled for each batch.

use framerail_core::BBox;
use framerail_vision::ModelMapping;

use crate::{
    card::{InputAxis, InputCard, InputValue, MoreInputCard},
    element::{Element, Elements},
    onnx::{Declared, Dim, InputShape, elem_type_name},
    size::InputSize,
};

/// More elements than any such input has.
const MAX_ELEMENTS: usize = 1 << 28;

/// The geometry of a view, for further inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ViewGeometry {
    /// Width and height of the view, in whole pixels.
    frame: [f32; 2],
    /// Size of the model's input.
    input: [f32; 2],
    /// Model pixels per frame pixel, horizontally and vertically.
    scale: [f32; 2],
}

impl ViewGeometry {
    /// Of a part of a frame, or a whole one, of this size in pixels.
    pub(crate) fn new(width: f32, height: f32, mapping: &ModelMapping, input: InputSize) -> Self {
        Self {
            frame: [width.round().max(1.0), height.round().max(1.0)],
            input: [input.width as f32, input.height as f32],
            scale: [mapping.scale_x, mapping.scale_y],
        }
    }

    fn value(&self, value: InputValue) -> f32 {
        let ([frame_width, frame_height], [input_width, input_height], [scale_x, scale_y]) = (self.frame, self.input, self.scale);
        match value {
            InputValue::Number(number) => number,
            InputValue::FrameWidth => frame_width,
            InputValue::FrameHeight => frame_height,
            InputValue::InputWidth => input_width,
            InputValue::InputHeight => input_height,
            InputValue::ScaleX => scale_x,
            InputValue::ScaleY => scale_y,
        }
    }

    /// From frame pixels to the pixels of the part, as the model knows it.
    pub(crate) fn mapping_of_frame(&self, by: FrameScale, area: &BBox) -> ModelMapping {
        // Sizes are given in whole pixels.
        let [across, down] = match by {
            FrameScale::FrameSize => [self.frame[0] / area.width(), self.frame[1] / area.height()],
            FrameScale::Scale => [1.0; 2],
        };
        ModelMapping { scale_x: across, scale_y: down, offset_x: -area.x1 * across, offset_y: -area.y1 * down }
    }

    /// From frame pixels to those that the model computes from its own pixels and the given scale.
    pub(crate) fn mapping_scaled(&self, by: FrameScale, mapping: &ModelMapping) -> ModelMapping {
        let [across, down] = match by {
            FrameScale::FrameSize => [self.frame[0] / self.input[0], self.frame[1] / self.input[1]],
            FrameScale::Scale => self.scale.map(|scale| 1.0 / scale),
        };
        ModelMapping {
            scale_x: mapping.scale_x * across,
            scale_y: mapping.scale_y * down,
            offset_x: mapping.offset_x * across,
            offset_y: mapping.offset_y * down,
        }
    }
}

/// How a model gets the frame's scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameScale {
    /// From its size.
    FrameSize,
    /// From the factors between frame and model pixels.
    Scale,
}

impl FrameScale {
    /// From the inputs of the card; `None` if none of them depends on the frame.
    pub(crate) fn of(card: &InputCard) -> Option<Self> {
        let mut values = card.more.values().flat_map(|more| &more.value);
        if values.clone().any(|value| value.is_frame_size()) {
            return Some(FrameScale::FrameSize);
        }
        values.any(|value| value.is_scale()).then_some(FrameScale::Scale)
    }
}

/// All further inputs of a model.
#[derive(Clone, Debug, Default)]
pub(crate) struct MoreInputs(Vec<MoreInput>);

/// An input, checked against the model.
#[derive(Clone, Debug)]
struct MoreInput {
    name: String,
    element: Element,
    axes: Vec<InputAxis>,
    values: Vec<InputValue>,
}

/// An input of a run.
#[derive(Debug)]
pub(crate) struct FilledInput {
    pub(crate) name: String,
    pub(crate) dims: Vec<i64>,
    pub(crate) elements: Elements,
}

/// The further inputs of a run, and their current values.
#[derive(Debug, Default)]
pub(crate) struct FilledInputs {
    pub(crate) inputs: Vec<FilledInput>,
    geometry: Vec<ViewGeometry>,
}

impl MoreInputs {
    /// The inputs that the card describes. `required` are the model's inputs other than the image, `optional` those that have a
    /// default.
    ///
    /// # Errors
    /// One line: an input that is not filled, with what to write; one that the model lacks; values that do not fit.
    pub(crate) fn new(card: &InputCard, required: &[&Declared], optional: &[Declared]) -> Result<Self, String> {
        if let Some(unfilled) = required.iter().find(|input| !card.more.contains_key(&input.name)) {
            return Err(format!("input {unfilled} is not filled; {}", advice(&unfilled.name)));
        }
        let mut inputs = Vec::new();
        for (name, more) in &card.more {
            let declared = required.iter().copied().chain(optional).find(|input| input.name == *name).ok_or_else(|| {
                let names: Vec<String> = required.iter().copied().chain(optional).map(Declared::to_string).collect();
                let has = if names.is_empty() { "none besides the image".to_owned() } else { names.join(", ") };
                format!("input '{name}' of the card's [input.more] is not in the model, which has {has}")
            })?;
            inputs.push(MoreInput::new(more, declared).map_err(|reason| format!("input {declared}: {reason}"))?);
        }
        Ok(Self(inputs))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An input that differs between images but holds the values of only one.
    pub(crate) fn for_one_image(&self) -> Option<&str> {
        let for_one = |input: &&MoreInput| input.is_of_image() && input.axes.first() != Some(&InputAxis::Batch);
        self.0.iter().find(for_one).map(|input| input.name.as_str())
    }

    /// Their shapes at an input size; `None` leaves the batch open.
    pub(crate) fn shapes(&self, size: InputSize, batch: Option<u64>) -> impl Iterator<Item = InputShape> {
        self.0.iter().map(move |input| InputShape { name: input.name.clone(), dims: input.dims(size, batch) })
    }

    /// Fills the inputs for images with this geometry; returns whether anything changed.
    ///
    /// # Errors
    /// What is wrong with an input's size.
    pub(crate) fn refill(&self, size: InputSize, geometry: &[ViewGeometry], filled: &mut FilledInputs) -> Result<bool, String> {
        let is_of_image = self.0.iter().any(MoreInput::is_of_image);
        let is_same = filled.geometry.len() == geometry.len() && (!is_of_image || filled.geometry == geometry);
        if is_same || self.is_empty() {
            return Ok(false);
        }
        filled.inputs = self.0.iter().map(|input| input.fill(size, geometry)).collect::<Result<_, _>>()?;
        filled.geometry = geometry.to_vec();
        Ok(true)
    }
}

impl MoreInput {
    fn new(card: &MoreInputCard, declared: &Declared) -> Result<Self, String> {
        let element = Element::of_declared(declared.elem_type);
        let element = element.ok_or_else(|| format!("inputs of {} are not filled", elem_type_name(declared.elem_type)))?;
        let is_float = matches!(element, Element::F32 | Element::F16);
        if !is_float && let Some(value) = card.value.iter().find(|value| value.is_scale() || has_fraction(**value)) {
            return Err(format!("it takes integers, and the model card gives {value}"));
        }
        let axes = axes(card, declared)?;
        let found = Self { name: declared.name.clone(), element, axes, values: card.value.clone() };
        let anywhere = InputSize { width: 1, height: 1 };
        let elements = count(&found.item_dims(anywhere)).ok_or("it is too large")?;
        let is_sized = found.axes.iter().any(|axis| matches!(axis, InputAxis::InputWidth | InputAxis::InputHeight));
        let fits = card.value.len() == 1 || (elements == card.value.len() && !is_sized);
        if fits {
            Ok(found)
        } else {
            Err(format!("it has {elements} elements per image, and the model card gives {} values", card.value.len()))
        }
    }

    fn is_of_image(&self) -> bool {
        self.values.iter().any(|value| value.is_of_image())
    }

    fn dims(&self, size: InputSize, batch: Option<u64>) -> Vec<Option<u64>> {
        let dim = |axis: &InputAxis| match axis {
            InputAxis::Size(size) => Some(u64::from(*size)),
            InputAxis::Batch => batch,
            InputAxis::InputWidth => Some(u64::from(size.width)),
            InputAxis::InputHeight => Some(u64::from(size.height)),
        };
        self.axes.iter().map(dim).collect()
    }

    /// The axes of one image's elements.
    fn item_dims(&self, size: InputSize) -> Vec<i64> {
        self.dims(size, Some(1)).into_iter().map(|dim| dim.unwrap_or(1) as i64).collect()
    }

    fn fill(&self, size: InputSize, geometry: &[ViewGeometry]) -> Result<FilledInput, String> {
        let mut dims = self.item_dims(size);
        let item = count(&dims).filter(|item| *item <= MAX_ELEMENTS);
        let item = item.ok_or_else(|| format!("input '{}' of {dims:?} is too large", self.name))?;
        let of_batch = self.axes.first() == Some(&InputAxis::Batch);
        if let Some(first) = dims.first_mut().filter(|_| of_batch) {
            *first = geometry.len() as i64;
        }
        let images = if of_batch { geometry } else { geometry.get(..1).unwrap_or_default() };
        let mut elements = Elements::zeros(self.element, item.saturating_mul(images.len()));
        for (index, geometry) in images.iter().enumerate() {
            let values: Vec<f32> = match self.values.as_slice() {
                [only] => vec![geometry.value(*only); item],
                values => values.iter().map(|value| geometry.value(*value)).collect(),
            };
            elements.write(index * item, &values);
        }
        Ok(FilledInput { name: self.name.clone(), dims, elements })
    }
}

fn has_fraction(value: InputValue) -> bool {
    matches!(value, InputValue::Number(number) if number.fract() != 0.0)
}

fn count(dims: &[i64]) -> Option<usize> {
    dims.iter().try_fold(1_usize, |product, dim| product.checked_mul(usize::try_from(*dim).ok()?))
}

/// The axes from the card, else from the model.
fn axes(card: &MoreInputCard, declared: &Declared) -> Result<Vec<InputAxis>, String> {
    let Some(dims) = &declared.dims else {
        return card.shape.clone().ok_or_else(|| "the model does not declare its shape; write shape = [\"batch\", …] in the card".into());
    };
    if let Some(axes) = &card.shape {
        let fits = |(axis, dim): (&InputAxis, &Dim)| match (axis, dim) {
            (InputAxis::Size(size), Dim::Fixed(declared)) => i64::from(*size) == *declared,
            _ => true,
        };
        let is_fitting = axes.len() == dims.len() && axes.iter().zip(dims).all(fits);
        return if is_fitting { Ok(axes.clone()) } else { Err("the card states a different shape".into()) };
    }
    let rest: Vec<&Dim> = dims.iter().skip(1).collect();
    let rest_count = rest.iter().try_fold(1_usize, |product, dim| match dim {
        Dim::Fixed(size) => product.checked_mul(usize::try_from(*size).ok()?),
        Dim::Symbolic(_) => None,
    });
    // A first axis of 1 is the batch axis if the others hold all values of an image.
    let is_batch = card.value.iter().any(|value| value.is_of_image()) && rest_count == Some(card.value.len());
    let axis = |(index, dim): (usize, &Dim)| match dim {
        Dim::Fixed(1) if index == 0 && is_batch => Ok(InputAxis::Batch),
        Dim::Fixed(size) => u32::try_from(*size).map(InputAxis::Size).map_err(|_| format!("an axis of {size}")),
        Dim::Symbolic(_) if index == 0 => Ok(InputAxis::Batch),
        Dim::Symbolic(_) => {
            Err("the model does not fix its size; write shape = [\"batch\", …] in the card, with numbers, input_width or input_height"
                .into())
        }
    };
    dims.iter().enumerate().map(axis).collect()
}

/// The card entry to suggest for an input, by the names that exporters use.
fn advice(name: &str) -> String {
    let known = match name {
        "orig_target_sizes" => Some(r#"["frame_width", "frame_height"]"#),
        "target_sizes" | "target_size" | "image_shape" | "orig_size" | "original_size" => Some(r#"["frame_height", "frame_width"]"#),
        "im_shape" => Some(r#"["input_height", "input_width"]"#),
        "scale_factor" => Some(r#"["scale_y", "scale_x"]"#),
        "im_info" => Some(r#"["input_height", "input_width", "scale_y"]"#),
        "pixel_mask" => Some("1"),
        _ => None,
    };
    match known {
        Some(value) => format!("write [input.more.{name}] with value = {value} in the card"),
        None => format!(
            "write [input.more.{name}] in the card, with value = a number, or a list of numbers, frame_width, frame_height, input_width, \
             input_height, scale_x, scale_y"
        ),
    }
}

#[cfg(test)]
mod tests {
    use framerail_core::Point;

    use super::*;

    const INPUT: InputSize = InputSize { width: 64, height: 32 };

    fn declared(elem_type: u64, dims: &[i64]) -> Declared {
        let dim = |dim: &i64| if *dim < 0 { Dim::Symbolic("N".into()) } else { Dim::Fixed(*dim) };
        Declared { name: "more".into(), elem_type, dims: Some(dims.iter().map(dim).collect()) }
    }

    fn card(text: &str) -> MoreInputCard {
        toml::from_str(text).expect("card of the test")
    }

    /// Two images of 640x480 and 100x50.
    fn geometry() -> [ViewGeometry; 2] {
        let mapping = |scale_x, scale_y| ModelMapping { scale_x, scale_y, offset_x: 0.0, offset_y: 0.0 };
        [ViewGeometry::new(640.0, 480.0, &mapping(0.1, 0.0667), INPUT), ViewGeometry::new(99.6, 50.2, &mapping(0.64, 0.625), INPUT)]
    }

    fn fill(text: &str, elem_type: u64, dims: &[i64]) -> Result<(Vec<i64>, Elements), String> {
        let filled = MoreInput::new(&card(text), &declared(elem_type, dims))?.fill(INPUT, &geometry())?;
        Ok((filled.dims, filled.elements))
    }

    #[test]
    fn sizes_are_filled_for_each_image() {
        let sizes = fill("value = [\"frame_width\", \"frame_height\"]", 7, &[-1, 2]);
        assert_eq!(sizes, Ok((vec![2, 2], Elements::I64(vec![640, 480, 100, 50]))));
        let factors = fill("value = [\"scale_y\", \"scale_x\"]", 1, &[1, 2]);
        assert_eq!(factors, Ok((vec![2, 2], Elements::F32(vec![0.0667, 0.1, 0.625, 0.64]))), "a batch of one is opened");
        let info = fill("value = [\"input_height\", \"input_width\", 1]", 6, &[-1, 3]);
        assert_eq!(info, Ok((vec![2, 3], Elements::I32(vec![32, 64, 1, 32, 64, 1]))));
    }

    #[test]
    fn constants_fill_what_the_model_declares() {
        assert_eq!(fill("value = 0.5", 1, &[]), Ok((vec![], Elements::F32(vec![0.5]))));
        assert_eq!(fill("value = true", 9, &[1, 2]), Ok((vec![1, 2], Elements::Bool(vec![true; 2]))), "one for all pictures");
        assert_eq!(fill("value = 1", 7, &[-1, 2, 2]), Ok((vec![2, 2, 2], Elements::I64(vec![1; 8]))));
        let mask = fill("value = 1\nshape = [\"batch\", \"input_height\", \"input_width\"]", 2, &[-1, -1, -1]);
        assert_eq!(mask.map(|(dims, _)| dims), Ok(vec![2, 32, 64]));
    }

    #[test]
    fn what_does_not_fit_is_reported() {
        for (text, elem_type, dims, expected) in [
            ("value = [1, 2, 3]", 1, &[-1, 2][..], "2 elements per image, and the model card gives 3 values"),
            ("value = \"scale_x\"", 7, &[-1, 1], "takes integers, and the model card gives scale_x"),
            ("value = 0.5", 7, &[1], "takes integers, and the model card gives 0.5"),
            ("value = 1", 7, &[-1, -1], "write shape = [\"batch\""),
            ("value = 1\nshape = [2]", 7, &[3], "the card states a different shape"),
            ("value = 1", 8, &[1], "inputs of other type are not filled"),
        ] {
            let geometry = fill(text, elem_type, dims).expect_err("does not fit");
            assert!(geometry.contains(expected), "{geometry}");
        }
    }

    #[test]
    fn inputs_are_not_filled_again_for_the_same_geometry() {
        let names = |text: &str| MoreInputs(vec![MoreInput::new(&card(text), &declared(7, &[-1, 2])).expect("fits")]);
        let (sizes, constant, mut filled) =
            (names("value = [\"frame_width\", \"frame_height\"]"), names("value = 1"), FilledInputs::default());
        let [first, second] = geometry();
        assert_eq!(sizes.refill(INPUT, &[first, second], &mut filled), Ok(true));
        assert_eq!(sizes.refill(INPUT, &[first, second], &mut filled), Ok(false));
        assert_eq!(sizes.refill(INPUT, &[second, second], &mut filled), Ok(true));
        assert_eq!(constant.refill(INPUT, &[first, first], &mut filled), Ok(false), "of two pictures, whichever");
        assert_eq!(constant.refill(INPUT, &[first], &mut filled), Ok(true));
    }

    #[test]
    fn pixels_that_come_back_are_the_frames() {
        // 100x50 from (20, 10) on at half the size, behind padding of 7 and 3.5 that a model may or may not know of.
        let area = BBox::from_xyxy(20.0, 10.0, 120.0, 60.0);
        let mapping = ModelMapping { scale_x: 0.5, scale_y: 0.5, offset_x: -10.0 + 7.0, offset_y: -5.0 + 3.5 };
        let geometry = ViewGeometry::new(100.0, 50.0, &mapping, INPUT);
        let is_at = |mapping: ModelMapping, x: f32, y: f32| {
            let found = mapping.point_frame_from_model(Point { x, y });
            assert!((found.x - 70.0).abs() < 1e-4 && (found.y - 30.0).abs() < 1e-4, "{found:?}");
        };
        let (x, y) = (70.0 * 0.5 - 3.0, 30.0 * 0.5 - 1.5);
        is_at(geometry.mapping_scaled(FrameScale::FrameSize, &mapping), x / 64.0 * 100.0, y / 32.0 * 50.0);
        is_at(geometry.mapping_scaled(FrameScale::Scale, &mapping), x / 0.5, y / 0.5);
        [FrameScale::FrameSize, FrameScale::Scale].iter().for_each(|by| is_at(geometry.mapping_of_frame(*by, &area), 50.0, 20.0));
    }
}
