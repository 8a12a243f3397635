//! The square around a face that face recognition models are trained on.

use framerail_core::{BBox, Detection, Point};

/// Eyes, nose and corners of the mouth in a square of side 1.
///
/// Source: the alignment of ArcFace (Deng et al., 2019), 112x112 pixels, which SFace, MobileFaceNet and others share.
const LANDMARKS: [[f32; 2]; 5] = [
    [38.2946 / 112.0, 51.6963 / 112.0],
    [73.5318 / 112.0, 51.5014 / 112.0],
    [56.0252 / 112.0, 71.7366 / 112.0],
    [41.5493 / 112.0, 92.3655 / 112.0],
    [70.7299 / 112.0, 92.2041 / 112.0],
];

/// Growth of the box where there are no such landmarks.
const BOX_SCALE: f32 = 1.2;

/// The square in which the landmarks lie as near as possible to where recognition models expect them, without rotation. For detections
/// without five landmarks, the square around the box, a tenth larger on each side.
pub(super) fn face_square(found: &Detection) -> BBox {
    aligned(&found.landmarks).unwrap_or_else(|| {
        let (center, side) = (found.bbox.center(), found.bbox.width().max(found.bbox.height()) * BOX_SCALE);
        BBox::from_cxcywh(center.x, center.y, side, side)
    })
}

/// Least squares over scale and position.
fn aligned(points: &[Point]) -> Option<BBox> {
    let points: &[Point; 5] = points.try_into().ok()?;
    let mean = |values: [f32; 5]| values.iter().sum::<f32>() / 5.0;
    let center = Point { x: mean(points.map(|point| point.x)), y: mean(points.map(|point| point.y)) };
    let target = Point { x: mean(LANDMARKS.map(|[x, _]| x)), y: mean(LANDMARKS.map(|[_, y]| y)) };
    let (mut along, mut spread) = (0.0, 0.0);
    for (point, [x, y]) in points.iter().zip(LANDMARKS) {
        let (dx, dy) = (x - target.x, y - target.y);
        along += (point.x - center.x) * dx + (point.y - center.y) * dy;
        spread += dx * dx + dy * dy;
    }
    let side = along / spread;
    // A face on its side or upside down fits no upright square.
    (side.is_finite() && side >= 1.0).then(|| {
        let (x, y) = (center.x - target.x * side, center.y - target.y * side);
        BBox::from_xyxy(x, y, x + side, y + side)
    })
}

#[cfg(test)]
mod tests {
    use framerail_core::Label;

    use super::*;

    fn face(landmarks: Vec<Point>) -> Detection {
        let label = Label { id: 0, name: "face".into() };
        Detection { landmarks, ..Detection::new(BBox::from_xyxy(10.0, 20.0, 40.0, 60.0), 0.9, label) }
    }

    #[test]
    fn landmarks_come_to_where_models_expect_them() {
        let points = LANDMARKS.map(|[x, y]| Point { x: 100.0 + x * 224.0, y: 50.0 + y * 224.0 });
        let square = face_square(&face(points.to_vec()));
        for (found, expected) in [(square.x1, 100.0), (square.y1, 50.0), (square.x2, 324.0), (square.y2, 274.0)] {
            assert!((found - expected).abs() < 0.01, "{square:?}");
        }
    }

    #[test]
    fn without_usable_landmarks_the_box_counts() {
        let upside_down = LANDMARKS.map(|[x, y]| Point { x: 50.0 - x, y: 50.0 - y });
        for points in [Vec::new(), vec![Point::default(); 5], upside_down.to_vec(), vec![Point { x: f32::NAN, y: 0.0 }; 5]] {
            let square = face_square(&face(points));
            assert!((square.width() - 48.0).abs() < 0.01 && (square.height() - 48.0).abs() < 0.01, "{square:?}");
            assert_eq!(square.center(), Point { x: 25.0, y: 40.0 });
        }
    }
}
