//! Plans of framerail-vision in the terms of the kernels that carry them out.

use framerail_cuda::kernels::{self, AxisBlur, Fill, HideRegion, MaskShape, Rectangle};
use framerail_vision::{BlurPlan, FillPlan, HidePlan, MosaicPlan, Outline, Region};

/// One face; `None` for numbers beyond what kernels take, which no frame has.
pub(super) fn hide_region(plan: &HidePlan) -> Option<HideRegion> {
    let mask = &plan.mask;
    let outline = match mask.outline {
        Outline::Rectangle { half_width, half_height } => kernels::Outline::Rectangle { half_width, half_height },
        Outline::Ellipse { across, along, cos, sin } => kernels::Outline::Ellipse { across, along, cos, sin },
    };
    let mask = MaskShape {
        region: rectangle(mask.region),
        center: mask.center,
        outline,
        inverse_squares: mask.outline.inverse_squares(mask.feather),
        feather: mask.feather,
    };
    Some(HideRegion { mask, fills: plan.fills.iter().map(fill).collect::<Option<_>>()? })
}

fn rectangle(region: Region) -> Rectangle {
    Rectangle { x: region.x, y: region.y, width: region.width, height: region.height }
}

fn fill(plan: &FillPlan) -> Option<Fill> {
    Some(match plan {
        FillPlan::Solid(code) => Fill::Solid(*code),
        FillPlan::Blur(BlurPlan { patch, across, down }) => {
            Fill::Blur { patch: rectangle(*patch), across: axis(across)?, down: axis(down)? }
        }
        FillPlan::Mosaic(MosaicPlan { source, origin_x, origin_y, cell }) => Fill::Mosaic {
            source: rectangle(*source),
            origin_x: i32::try_from(*origin_x).ok()?,
            origin_y: i32::try_from(*origin_y).ok()?,
            cell: *cell,
        },
        _ => return None,
    })
}

fn axis(axis: &framerail_vision::AxisBlur) -> Option<AxisBlur> {
    let number = |number: usize| u32::try_from(number).ok();
    let [first, second, third] = axis.widths.map(number);
    Some(AxisBlur { step: number(axis.step)?, widths: [first?, second?, third?] })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use framerail_core::{BBox, ColorDescription, Detection, Label, PixelFormat};
    use framerail_vision::{MaskOptions, MosaicCell, Obscure, Obscurer};

    use super::*;

    #[test]
    fn every_kind_has_its_region() {
        let face = Detection::new(BBox::from_xyxy(20.0, 10.0, 60.0, 58.0), 0.9, Label { id: 0, name: Arc::from("face") });
        let kinds = [Obscure::default(), Obscure::Mosaic { cell: MosaicCell::Pixels(8) }, Obscure::Solid { rgb: [1, 2, 3] }];
        for kind in kinds {
            let obscurer = Obscurer::new(kind, MaskOptions::default()).expect("in range");
            let (plans, counts) =
                obscurer.plan((128, 96), PixelFormat::Nv12, &ColorDescription::default(), std::slice::from_ref(&face)).expect("a plan");
            assert_eq!(counts.hidden, 1);
            let region = hide_region(&plans[0]).expect("numbers in range");
            assert_eq!(region.fills.len(), 3);
            assert_eq!(region.mask.region, rectangle(plans[0].mask.region));
            assert!(region.mask.inverse_squares[0].0 > 0.0, "an ellipse");
        }
    }
}
