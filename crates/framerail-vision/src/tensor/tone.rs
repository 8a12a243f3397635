//! Converts high dynamic range to BT.709 of standard dynamic range, by tables.
//!
//! Sources: Rec. ITU-R BT.2100 (PQ and HLG), Report ITU-R BT.2390 (EETF), Report ITU-R BT.2408 (reference white of 203 cd/m²),
//! Rec. ITU-R BT.1886 (standard displays), Rec. ITU-R BT.2087 (gamut), J. Hable, "Filmic Tonemapping Operators" (2010).

use framerail_core::{ColorDescription, ColorPrimaries, ColorTransfer, ToneCurves};

use super::ToneMap;

/// Assumed peak of the display that frames were mastered for, in cd/m²: frames carry no such information.
const SOURCE_PEAK: f64 = 1000.0;

/// The light that becomes standard white, in cd/m².
const REFERENCE_WHITE: f64 = 203.0;

/// Intervals of a table.
const STEPS: usize = ToneCurves::STEPS;

/// A function on 0 to 1, tabulated in equal steps.
#[derive(Debug)]
struct Table(Vec<f32>);

impl Table {
    fn new(function: impl Fn(f64) -> f64) -> Self {
        // One entry beyond the last, so that there is always a next one.
        Self((0..STEPS + 2).map(|step| function((step as f64 / STEPS as f64).min(1.0)) as f32).collect())
    }

    fn at(&self, position: f32) -> f32 {
        let place = position.clamp(0.0, 1.0) * STEPS as f32;
        let step = place as usize;
        match self.0.get(step..step + 2) {
            Some([first, second]) => first + (second - first) * (place - step as f32),
            _ => 0.0,
        }
    }
}

/// A function of light on 0 to 1, finer towards black: tabulated in equal steps of the fourth root.
#[derive(Debug)]
struct LightTable(Table);

impl LightTable {
    fn new(function: impl Fn(f64) -> f64) -> Self {
        Self(Table::new(|root| function(root.powi(4))))
    }

    fn at(&self, light: f32) -> f32 {
        self.0.at(light.max(0.0).sqrt().sqrt())
    }
}

/// Display light in cd/m² for a PQ signal (BT.2100, table 4).
fn light_from_pq(signal: f64) -> f64 {
    let (m1, m2) = (2610.0 / 16384.0, 2523.0 / 4096.0 * 128.0);
    let (c1, c2, c3) = (3424.0 / 4096.0, 2413.0 / 4096.0 * 32.0, 2392.0 / 4096.0 * 32.0);
    let root = signal.powf(1.0 / m2);
    10_000.0 * ((root - c1).max(0.0) / (c2 - c3 * root)).powf(1.0 / m1)
}

/// The inverse of [`light_from_pq`].
fn pq_from_light(light: f64) -> f64 {
    let (m1, m2) = (2610.0 / 16384.0, 2523.0 / 4096.0 * 128.0);
    let (c1, c2, c3) = (3424.0 / 4096.0, 2413.0 / 4096.0 * 32.0, 2392.0 / 4096.0 * 32.0);
    let power = (light / 10_000.0).max(0.0).powf(m1);
    ((c1 + c2 * power) / (1.0 + c3 * power)).powf(m2)
}

/// Scene light, 0 to 1, for an HLG signal (BT.2100, table 5).
fn scene_from_hlg(signal: f64) -> f64 {
    let (a, b, c) = (0.178_832_77, 0.284_668_92, 0.559_910_73);
    if signal <= 0.5 { signal * signal / 3.0 } else { (((signal - c) / a).exp() + b) / 12.0 }
}

/// BT.2390's EETF from the source's peak to reference white, both in cd/m²; black stays black.
fn bt2390(light: f64) -> f64 {
    let whole = pq_from_light(SOURCE_PEAK);
    let most = pq_from_light(REFERENCE_WHITE) / whole;
    let knee = 1.5 * most - 0.5;
    let signal = (pq_from_light(light) / whole).min(1.0);
    let mapped = if signal < knee {
        signal
    } else {
        let t = (signal - knee) / (1.0 - knee);
        let (t2, t3) = (t * t, t * t * t);
        (2.0 * t3 - 3.0 * t2 + 1.0) * knee + (t3 - 2.0 * t2 + t) * (1.0 - knee) + (3.0 * t2 - 2.0 * t3) * most
    };
    light_from_pq(mapped * whole)
}

/// Hable's curve, scaled so that the source's peak becomes reference white; in cd/m².
fn hable(light: f64) -> f64 {
    let curve = |x: f64| (x * (0.15 * x + 0.05) + 0.004) / (x * (0.15 * x + 0.5) + 0.06) - 0.02 / 0.3;
    REFERENCE_WHITE * curve(light / REFERENCE_WHITE) / curve(SOURCE_PEAK / REFERENCE_WHITE)
}

/// Returns the matrix from linear light of these primaries to that of BT.709.
fn to_bt709(primaries: ColorPrimaries) -> [[f32; 3]; 3] {
    match primaries.0 {
        // BT.709, and BT.601's, which are close.
        1 | 5 | 6 | 7 => [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        // P3 with D65 white (SMPTE EG 432-1).
        12 => [[1.224_94, -0.224_94, 0.0], [-0.042_057, 1.042_057, 0.0], [-0.019_638, -0.078_636, 1.098_274]],
        // BT.2020, the primaries for PQ and HLG.
        _ => [[1.660_491, -0.587_641, -0.072_85], [-0.124_55, 1.132_9, -0.008_349], [-0.018_151, -0.100_579, 1.118_73]],
    }
}

/// Tone-maps pixels of one transfer and one set of primaries.
#[derive(Debug)]
pub(super) struct ToneMapper {
    /// Signal to light: for PQ display light relative to the source's peak, for HLG scene light.
    light: Table,
    /// For HLG, the factor from scene to display light, by scene luminance.
    system_gain: Option<LightTable>,
    /// Factor by the light of the brightest channel.
    gain: LightTable,
    gamut: [[f32; 3]; 3],
    /// Light relative to reference white to a standard signal.
    signal: LightTable,
}

impl ToneMapper {
    /// Whether frames with these tags have high dynamic range: PQ or HLG.
    pub fn is_for(color: &ColorDescription) -> bool {
        matches!(color.transfer, ColorTransfer(16 | 18))
    }

    /// Returns the tables in the form that devices use.
    pub fn curves(&self) -> ToneCurves {
        let unused = vec![1.0; ToneCurves::ENTRIES];
        let system_gain = self.system_gain.as_ref().map_or(&unused, |LightTable(Table(values))| values);
        let is_scene_light = if self.system_gain.is_some() { 1.0 } else { 0.0 };
        let mut values = vec![is_scene_light];
        values.extend(self.gamut.iter().flatten());
        for table in [&self.light.0, &self.gain.0.0, &self.signal.0.0, system_gain] {
            values.extend(table);
        }
        ToneCurves(values)
    }

    /// Creates a mapper for these tags; `None` unless the transfer is PQ or HLG.
    pub fn new(tone_map: ToneMap, color: &ColorDescription) -> Option<Self> {
        let (light, system_gain) = match color.transfer {
            ColorTransfer(16) => (Table::new(|signal| (light_from_pq(signal) / SOURCE_PEAK).min(1.0)), None),
            // System gamma of 1.2 for a peak of 1000 cd/m².
            ColorTransfer(18) => (Table::new(scene_from_hlg), Some(LightTable::new(|luminance| luminance.powf(0.2)))),
            _ => return None,
        };
        let curve = match tone_map {
            ToneMap::Bt2390 => bt2390,
            ToneMap::Hable => hable,
        };
        let gain = move |light: f64| {
            let light = light.max(1e-6) * SOURCE_PEAK;
            curve(light) / light
        };
        let signal = LightTable::new(|light| light.powf(1.0 / 2.4) * 255.0);
        Some(Self { light, system_gain, gain: LightTable::new(gain), gamut: to_bt709(color.primaries), signal })
    }

    /// Maps full-range red, green, blue (0 to 255) from high to standard dynamic range.
    pub fn map(&self, rgb: [f32; 3]) -> [f32; 3] {
        let mut light = rgb.map(|value| self.light.at(value / 255.0));
        if let Some(system_gain) = &self.system_gain {
            let luminance = 0.2627 * light[0] + 0.6780 * light[1] + 0.0593 * light[2];
            let gain = system_gain.at(luminance);
            light = light.map(|channel| channel * gain);
        }
        // One factor for all three keeps the hue.
        let most = light[0].max(light[1]).max(light[2]);
        let gain = self.gain.at(most) * (SOURCE_PEAK / REFERENCE_WHITE) as f32;
        let mapped = light.map(|channel| channel * gain);
        self.gamut.map(|row| self.signal.at((row[0] * mapped[0] + row[1] * mapped[1] + row[2] * mapped[2]).min(1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(transfer: u8, primaries: u8) -> ColorDescription {
        ColorDescription { transfer: ColorTransfer(transfer), primaries: ColorPrimaries(primaries), ..Default::default() }
    }

    fn mapper(tone_map: ToneMap, transfer: u8) -> ToneMapper {
        ToneMapper::new(tone_map, &tagged(transfer, 9)).expect("PQ or HLG")
    }

    #[test]
    fn known_levels_of_the_standards() {
        assert!((pq_from_light(100.0) - 0.5081).abs() < 1e-4 && (pq_from_light(REFERENCE_WHITE) - 0.5807).abs() < 1e-3);
        assert!((light_from_pq(pq_from_light(713.0)) - 713.0).abs() < 1e-6);
        // BT.2408: HLG of 75% is reference white on a display of 1000 cd/m2.
        let scene = scene_from_hlg(0.75);
        assert!((1000.0 * scene.powf(1.2) - REFERENCE_WHITE).abs() < 1.0 && (scene_from_hlg(1.0) - 1.0).abs() < 1e-6);
        assert!(ToneMapper::new(ToneMap::Bt2390, &tagged(1, 9)).is_none());
    }

    #[test]
    fn curves_rise_from_black_to_reference_white() {
        for curve in [bt2390, hable] {
            assert!(curve(0.0).abs() < 1e-6 && (curve(SOURCE_PEAK) - REFERENCE_WHITE).abs() < 0.01);
            let levels: Vec<f64> = (0..=200).map(|step| curve(f64::from(step) * 5.0)).collect();
            assert!(levels.windows(2).all(|pair| pair[0] <= pair[1] + 1e-9));
        }
        // Below the knee nothing changes.
        assert!((bt2390(50.0) - 50.0).abs() < 1e-6);
    }

    #[test]
    fn tables_are_near_the_formulas() {
        for (tone_map, curve) in [(ToneMap::Bt2390, bt2390 as fn(f64) -> f64), (ToneMap::Hable, hable)] {
            for transfer in [16, 18] {
                let mapper = mapper(tone_map, transfer);
                for code in (0..=2550).step_by(17) {
                    let signal = f64::from(code) / 2550.0;
                    let light = match transfer {
                        16 => light_from_pq(signal).min(SOURCE_PEAK),
                        _ => SOURCE_PEAK * scene_from_hlg(signal).powf(1.2),
                    };
                    let expected = (curve(light) / REFERENCE_WHITE).clamp(0.0, 1.0).powf(1.0 / 2.4) * 255.0;
                    // Greys stay grey, in any gamut.
                    for channel in mapper.map([(signal * 255.0) as f32; 3]) {
                        assert!((f64::from(channel) - expected).abs() < 0.3, "{tone_map:?} {transfer} {signal}: {channel} for {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn colours_keep_their_order_and_stay_in_range() {
        let mapper = mapper(ToneMap::Bt2390, 16);
        for step in 0..4096_u32 {
            let rgb = [step % 16, step / 16 % 16, step / 256].map(|level| level as f32 * 17.0);
            let mapped = mapper.map(rgb);
            assert!(mapped.iter().all(|value| (0.0..=255.0).contains(value)), "{rgb:?}: {mapped:?}");
            let brightest = (0..3).max_by(|a, b| rgb[*a].total_cmp(&rgb[*b])).expect("three");
            let is_kept = |channel: usize| rgb[channel] == rgb[brightest] || mapped[channel] <= mapped[brightest] + 0.01;
            assert!((0..3).all(is_kept), "{rgb:?}: {mapped:?}");
        }
    }
}
