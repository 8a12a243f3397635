//! Contours compared with a pixel-by-pixel evaluation of their definition.

use framerail_core::{Attribute, Label, Point, SplitMix64};

use super::*;
use crate::{Mask, MaskOptions, MaskShape, MaskSource};

fn face(bbox: BBox) -> Detection {
    Detection::new(bbox, 0.9, Label { id: 0, name: Arc::from("face") })
}

fn attributed(bbox: BBox, values: Vec<AttributeValue>) -> Detection {
    let attributes = values.into_iter().map(|value| Attribute { model: "second".into(), value }).collect();
    Detection { attributes, ..face(bbox) }
}

fn mask(bbox: BBox, columns: u32, rows: u32, coverage: Vec<u8>) -> AttributeValue {
    AttributeValue::Mask(Arc::new(InstanceMask::new(bbox, columns, rows, coverage).expect("a mask")))
}

/// Points on an ellipse.
fn ring(points: usize, (x, y): (f32, f32), (across, along): (f32, f32)) -> Vec<Point> {
    let angle = |at: usize| at as f32 / points as f32 * std::f32::consts::TAU;
    (0..points).map(|at| Point { x: x + across * angle(at).cos(), y: y + along * angle(at).sin() }).collect()
}

fn contour(scale: f32, feather: f32) -> MaskOptions {
    MaskOptions { shape: MaskShape::Contour, mask_scale: scale, feather, ..Default::default() }
}

fn hidden(options: &MaskOptions, face: &Detection) -> Mask {
    Mask::new(options, face, 64, 48).expect("inside")
}

const BOX: BBox = BBox { x1: 10.0, y1: 8.0, x2: 34.0, y2: 40.0 };

#[test]
fn the_last_mask_comes_first_then_landmarks_then_the_detections_own() {
    let inner = BBox::from_xyxy(16.0, 12.0, 30.0, 36.0);
    let (first, last) = (mask(BOX, 1, 1, vec![255]), mask(inner, 2, 2, vec![255; 4]));
    let marks = AttributeValue::Landmarks(ring(12, (22.0, 24.0), (10.0, 12.0)));
    let found = Contour::of(&attributed(BOX, vec![first, last.clone(), marks.clone()]), 0.2).expect("a mask");
    assert_eq!(found.extent(), inner);
    let found = Contour::of(&attributed(BOX, vec![marks.clone()]), 0.2).expect("a hull");
    assert!(matches!(&found, Contour::Hull(_)) && found.extent().iou(&BBox::from_xyxy(12.0, 12.0, 32.0, 36.0)) > 0.95);
    // A mask below half coverage everywhere gives way to landmarks.
    let empty = mask(BOX, 2, 2, vec![100; 4]);
    assert!(matches!(Contour::of(&attributed(BOX, vec![marks, empty.clone()]), 0.2), Ok(Contour::Hull(_))));
    assert!(matches!(Contour::of(&attributed(BOX, vec![empty]), 0.2), Err(NoContour::TooSmall)));

    let own = |points: usize| Detection { landmarks: ring(points, (22.0, 24.0), (10.0, 12.0)), ..face(BOX) };
    assert!(matches!(Contour::of(&own(OUTLINING_LANDMARKS), 0.2), Ok(Contour::Hull(_))));
    assert!(matches!(Contour::of(&own(OUTLINING_LANDMARKS - 1), 0.2), Err(NoContour::Missing)), "too few to be an outline");
    assert!(matches!(Contour::of(&face(BOX), 0.2), Err(NoContour::Missing)));
}

#[test]
fn what_covers_too_little_of_the_box_does_not_count() {
    // The five points of a face: eyes, nose, corners of the mouth.
    let five = [(17.0, 20.0), (27.0, 20.0), (22.0, 26.0), (18.0, 32.0), (26.0, 32.0)].map(|(x, y)| Point { x, y });
    let five = |share| Contour::of(&attributed(BOX, vec![AttributeValue::Landmarks(five.into())]), share);
    assert!(matches!(five(0.2), Err(NoContour::TooSmall)));
    assert!(matches!(five(0.1), Ok(Contour::Hull(_))));
    // A face's outline inside a person's box counts despite its size.
    let person = BBox::from_xyxy(0.0, 0.0, 200.0, 400.0);
    let outline = |points| attributed(person, vec![AttributeValue::Landmarks(ring(points, (100.0, 40.0), (15.0, 20.0)))]);
    assert!(matches!(Contour::of(&outline(68), 0.2), Ok(Contour::Hull(_))));
    assert!(matches!(Contour::of(&outline(8), 0.2), Err(NoContour::TooSmall)));
    // Points on a line enclose nothing, however many there are.
    let line: Vec<Point> = (0..68).map(|at| Point { x: at as f32, y: at as f32 + (at % 2) as f32 }).collect();
    assert!(matches!(Contour::of(&attributed(person, vec![AttributeValue::Landmarks(line)]), 0.2), Err(NoContour::TooSmall)));
    let tiny = mask(BOX, 10, 10, [vec![255; 19], vec![0; 81]].concat());
    assert!(matches!(Contour::of(&attributed(BOX, vec![tiny.clone()]), 0.2), Err(NoContour::TooSmall)));
    assert!(matches!(Contour::of(&attributed(BOX, vec![tiny]), 0.19), Ok(Contour::Mask(_))));
}

/// The mask's value at a point by definition: interpolated between the centres of the four cells around it.
fn bilinear(mask: &InstanceMask, x: f64, y: f64) -> f64 {
    let bbox = mask.bbox();
    let inside = f64::from(bbox.x1) <= x && x <= f64::from(bbox.x2) && f64::from(bbox.y1) <= y && y <= f64::from(bbox.y2);
    if !inside {
        return 0.0;
    }
    let at = |value: f64, origin: f32, end: f32, cells: u32| {
        ((value - f64::from(origin)) / (f64::from(end) - f64::from(origin)) * f64::from(cells) - 0.5).clamp(0.0, f64::from(cells - 1))
    };
    let (u, v) = (at(x, bbox.x1, bbox.x2, mask.columns()), at(y, bbox.y1, bbox.y2, mask.rows()));
    let cell = |column: f64, row: f64| {
        let (column, row) = (column.min(f64::from(mask.columns() - 1)), row.min(f64::from(mask.rows() - 1)));
        f64::from(mask.coverage()[row as usize * mask.columns() as usize + column as usize])
    };
    let mut sum = 0.0;
    for (column, part_x) in [(u.floor(), 1.0 - u.fract()), (u.floor() + 1.0, u.fract())] {
        for (row, part_y) in [(v.floor(), 1.0 - v.fract()), (v.floor() + 1.0, v.fract())] {
            sum += part_x * part_y * cell(column, row);
        }
    }
    sum
}

/// Coverage of every pixel of a frame by definition: the distance to the nearest pixel inside, by brute force.
fn by_definition(inside: &dyn Fn(u32, u32) -> bool, growth: f64, feather: f64, (width, height): (u32, u32)) -> Vec<u8> {
    let all = || (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let distance = |x: u32, y: u32, wanted: bool| {
        let near = all().filter(|&(u, v)| inside(u, v) == wanted);
        near.map(|(u, v)| (f64::from(x) - f64::from(u)).hypot(f64::from(y) - f64::from(v))).fold(f64::INFINITY, f64::min)
    };
    let coverage = |(x, y)| {
        let beyond = if inside(x, y) { 0.5 - distance(x, y, false) } else { distance(x, y, true) - 0.5 };
        match beyond - growth {
            over if over <= 0.0 => 255,
            over if over >= feather => 0,
            over => {
                let t = 1.0 - over / feather;
                (255.0 * t * t * (3.0 - 2.0 * t)).round() as u8
            }
        }
    };
    all().map(coverage).collect()
}

fn assert_covers(found: &Mask, expected: &[u8], (width, height): (u32, u32), what: &str) {
    for y in 0..height {
        for x in 0..width {
            let (found, expected) = (found.at(x, y), expected[(y * width + x) as usize]);
            assert!(found.abs_diff(expected) <= 1, "{what}: {found} for {expected} at {x},{y}");
        }
    }
}

#[test]
fn masks_cover_what_their_definition_says() {
    let (mut random, frame) = (SplitMix64::new(3), (40, 30));
    let mut compared = 0;
    for round in 0..60 {
        let corner = |random: &mut SplitMix64| (random.between(-12.0, 24.0) as f32, random.between(-12.0, 20.0) as f32);
        let (x, y) = corner(&mut random);
        let bbox = BBox::from_xyxy(x, y, x + random.between(4.0, 34.0) as f32, y + random.between(4.0, 34.0) as f32);
        let (columns, rows) = (1 + random.below(9) as u32, 1 + random.below(9) as u32);
        let coverage: Vec<u8> = (0..columns * rows).map(|_| random.below(256) as u8).collect();
        let grid = InstanceMask::new(bbox, columns, rows, coverage).expect("a mask");
        let inside = |x: u32, y: u32| bilinear(&grid, f64::from(x) + 0.5, f64::from(y) + 0.5) >= 127.5;
        let options = MaskOptions { contour_share: 0.0, ..contour([1.0, 1.1, 1.5, 0.9][round % 4], [0.0, 0.05, 0.3][round % 3]) };
        let detection = attributed(bbox, vec![AttributeValue::Mask(Arc::new(grid.clone()))]);
        let Some(found) = Mask::new(&options, &detection, frame.0, frame.1).filter(|mask| mask.source == MaskSource::Contour) else {
            continue;
        };
        let extent = Contour::Mask(Arc::new(grid.clone())).extent();
        let growth = (f64::from(options.mask_scale) - 1.0) * f64::from(extent.width() + extent.height()) / 2.0;
        let feather = f64::from(options.feather * bbox.width().max(bbox.height()));
        assert_covers(&found, &by_definition(&inside, growth, feather, frame), frame, &format!("round {round}, {options:?}"));
        compared += 1;
    }
    assert!(compared > 40, "{compared}");
}

#[test]
fn hulls_cover_what_their_definition_says() {
    let (mut random, frame) = (SplitMix64::new(4), (40, 30));
    let mut compared = 0;
    for round in 0..60 {
        let point = |random: &mut SplitMix64| Point { x: random.between(-8.0, 46.0) as f32, y: random.between(-8.0, 38.0) as f32 };
        let points: Vec<Point> = (0..3 + random.below(10)).map(|_| point(&mut random)).collect();
        let Some(hull) = ConvexHull::of(&points) else { continue };
        let spans = hull.spans(0, frame.1);
        let inside = |x: u32, y: u32| spans[y as usize].0 < f64::from(x + 1) && spans[y as usize].1 > f64::from(x);
        let options = MaskOptions { contour_share: 0.0, ..contour([1.0, 1.1, 0.95][round % 3], [0.0, 0.05, 0.2][round % 3]) };
        let detection = attributed(BBox::from_xyxy(4.0, 4.0, 36.0, 26.0), vec![AttributeValue::Landmarks(points)]);
        let Some(found) = Mask::new(&options, &detection, frame.0, frame.1).filter(|mask| mask.source == MaskSource::Contour) else {
            continue;
        };
        let extent = hull.bounds();
        let growth = (f64::from(options.mask_scale) - 1.0) * f64::from(extent.width() + extent.height()) / 2.0;
        let feather = f64::from(options.feather * 32.0);
        assert_covers(&found, &by_definition(&inside, growth, feather, frame), frame, &format!("round {round}, {options:?}"));
        compared += 1;
    }
    assert!(compared > 40, "{compared}");
}

#[test]
fn a_face_without_a_contour_is_covered_as_large_as_ever() {
    let ellipse = MaskOptions { shape: MaskShape::Ellipse, mask_scale: 1.3, feather: 0.05, ..Default::default() };
    let expected = hidden(&ellipse, &face(BOX));
    // A contour scale below the ellipse's does not shrink the ellipse that replaces the contour.
    let missing = hidden(&contour(1.0, 0.05), &face(BOX));
    assert_eq!((missing.source, &missing.coverage, missing.region), (MaskSource::ContourMissing, &expected.coverage, expected.region));
    let speck = attributed(BOX, vec![mask(BOX, 9, 9, [vec![255; 4], vec![0; 77]].concat())]);
    let small = hidden(&contour(1.1, 0.05), &speck);
    assert_eq!((small.source, &small.coverage), (MaskSource::ContourTooSmall, &expected.coverage));
    // A contour outside the frame, of a box inside it.
    let astray = attributed(BOX, vec![mask(BBox::from_xyxy(900.0, 900.0, 930.0, 930.0), 1, 1, vec![255])]);
    assert_eq!(hidden(&contour(1.1, 0.05), &astray).source, MaskSource::ContourTooSmall);
    // A contour that shrinking removes completely.
    let stripes: Vec<u8> = (0..100).map(|cell| if cell % 2 == 0 { 255 } else { 0 }).collect();
    let thin = attributed(BOX, vec![mask(BOX, 100, 1, stripes)]);
    assert_eq!(hidden(&contour(0.6, 0.05), &thin).source, MaskSource::ContourTooSmall);
    let grown = MaskOptions { mask_scale: 2.0, ..ellipse };
    assert_eq!(hidden(&contour(2.0, 0.05), &face(BOX)).coverage, hidden(&grown, &face(BOX)).coverage);
}

#[test]
fn a_larger_scale_or_wider_edge_never_uncovers() {
    let blob: Vec<u8> = (0..256).map(|cell| if (cell % 16 + cell / 16) % 7 < 4 { 255 } else { 30 }).collect();
    let face = attributed(BOX, vec![mask(BOX, 16, 16, blob)]);
    let steps = [contour(0.97, 0.0), contour(1.0, 0.0), contour(1.0, 0.1), contour(1.1, 0.1), contour(1.4, 0.3)];
    for pair in steps.windows(2) {
        let (less, more) = (hidden(&pair[0], &face), hidden(&pair[1], &face));
        assert_eq!((less.source, more.source), (MaskSource::Contour, MaskSource::Contour));
        let (mut covered, mut grew) = (0, 0);
        for y in 0..48 {
            for x in 0..64 {
                assert!(more.at(x, y) >= less.at(x, y), "{:?} to {:?} at {x},{y}", pair[0], pair[1]);
                covered += u32::from(less.at(x, y) > 0);
                grew += u32::from(more.at(x, y) > less.at(x, y));
            }
        }
        assert!(covered > 100 && grew > 20, "{covered} {grew}");
    }
}

#[test]
fn odd_contours_neither_panic_nor_escape() {
    let odd_boxes = [
        BBox::from_xyxy(-1e30, -1e30, 1e30, 1e30),
        BBox::from_xyxy(-f32::MAX, -10.0, f32::MAX, 1e9),
        BBox::from_xyxy(20.0, 20.0, 20.000_002, 20.000_002),
        BBox::from_xyxy(63.9, 47.9, 80.0, 90.0),
        BBox::from_xyxy(-3.0, -3.0, 0.01, 0.01),
    ];
    for scale in [0.6, 1.0, 1.1, 10.0] {
        for bbox in odd_boxes {
            for detected in odd_boxes {
                let values = [
                    InstanceMask::new(bbox, 3, 2, vec![255; 6]).map(|mask| AttributeValue::Mask(Arc::new(mask))).ok(),
                    Some(AttributeValue::Landmarks(vec![
                        Point { x: bbox.x1, y: bbox.y1 },
                        Point { x: bbox.x2, y: bbox.y1 },
                        Point { x: bbox.x2, y: f32::NAN },
                        Point { x: bbox.x2, y: bbox.y2 },
                        Point { x: f32::INFINITY, y: 0.0 },
                    ])),
                ];
                for value in values.into_iter().flatten() {
                    let detection = attributed(detected, vec![value]);
                    if let Some(mask) = Mask::new(&contour(scale, 1.0), &detection, 64, 48) {
                        assert!(mask.region.fits(64, 48));
                        assert_eq!(mask.coverage.len(), mask.region.pixels());
                    }
                }
            }
        }
    }
    let everywhere = attributed(BOX, vec![mask(odd_boxes[0], 1, 1, vec![255])]);
    assert!(hidden(&contour(1.0, 0.0), &everywhere).coverage.iter().all(|&value| value == 255));
}
