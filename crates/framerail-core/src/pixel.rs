//! Pixel formats, described component by component so that one loop handles many formats.
//!
//! Names and definitions are FFmpeg's (`libavutil/pixfmt.h`), little endian for samples above 8 bits.

use std::{fmt, str::FromStr};

/// The colour model of a format's components.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PixelFamily {
    /// One grey component.
    Gray,
    /// Y', Cb, Cr, in this order.
    Yuv,
    /// R, G, B, in this order.
    Rgb,
}

/// Where one component's samples are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// Plane index.
    pub plane: usize,
    /// Bytes from one sample to the next within a row.
    pub step_bytes: usize,
    /// Bytes from the start of a row to its first sample.
    pub offset_bytes: usize,
    /// Bits by which a stored sample is shifted left (P010: 6).
    pub shift: u32,
}

const fn at(plane: usize, step_bytes: usize, offset_bytes: usize, shift: u32) -> Component {
    Component { plane, step_bytes, offset_bytes, shift }
}

/// Everything that distinguishes one pixel format from another.
#[derive(Debug)]
struct Descriptor {
    name: &'static str,
    family: PixelFamily,
    bits: u32,
    /// log2 of horizontal and vertical chroma subsampling.
    chroma_shift: (u32, u32),
    /// Colour components in the family's order, then alpha if any.
    components: &'static [Component],
    alpha: bool,
}

macro_rules! pixel_formats {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $family:ident, $bits:literal, ($cw:literal, $ch:literal), alpha $alpha:literal, [$($component:expr),+];)+) => {
        /// The sample layout of a frame. Other formats that FFmpeg decodes are converted on reading, and the conversion is reported.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum PixelFormat {
            $($(#[$doc])* $variant,)+
        }

        impl PixelFormat {
            /// Every format.
            pub const ALL: &'static [PixelFormat] = &[$(PixelFormat::$variant,)+];

            fn descriptor(self) -> &'static Descriptor {
                match self {
                    $(PixelFormat::$variant => {
                        static DESCRIPTOR: Descriptor = Descriptor {
                            name: $name, family: PixelFamily::$family, bits: $bits, chroma_shift: ($cw, $ch),
                            components: &[$($component),+], alpha: $alpha,
                        };
                        &DESCRIPTOR
                    })+
                }
            }
        }
    };
}

pixel_formats! {
    /// Grey, 8 bits.
    Gray8 = "gray", Gray, 8, (0, 0), alpha false, [at(0, 1, 0, 0)];
    /// Grey, 10 bits in 16.
    Gray10 = "gray10le", Gray, 10, (0, 0), alpha false, [at(0, 2, 0, 0)];
    /// Grey, 12 bits in 16.
    Gray12 = "gray12le", Gray, 12, (0, 0), alpha false, [at(0, 2, 0, 0)];
    /// Grey, 16 bits.
    Gray16 = "gray16le", Gray, 16, (0, 0), alpha false, [at(0, 2, 0, 0)];
    /// Planar 4:2:0, 8 bits.
    Yuv420p = "yuv420p", Yuv, 8, (1, 1), alpha false, [at(0, 1, 0, 0), at(1, 1, 0, 0), at(2, 1, 0, 0)];
    /// Planar 4:2:2, 8 bits.
    Yuv422p = "yuv422p", Yuv, 8, (1, 0), alpha false, [at(0, 1, 0, 0), at(1, 1, 0, 0), at(2, 1, 0, 0)];
    /// Planar 4:4:4, 8 bits.
    Yuv444p = "yuv444p", Yuv, 8, (0, 0), alpha false, [at(0, 1, 0, 0), at(1, 1, 0, 0), at(2, 1, 0, 0)];
    /// Planar 4:4:0, 8 bits.
    Yuv440p = "yuv440p", Yuv, 8, (0, 1), alpha false, [at(0, 1, 0, 0), at(1, 1, 0, 0), at(2, 1, 0, 0)];
    /// Planar 4:1:1, 8 bits.
    Yuv411p = "yuv411p", Yuv, 8, (2, 0), alpha false, [at(0, 1, 0, 0), at(1, 1, 0, 0), at(2, 1, 0, 0)];
    /// Planar 4:2:0, 10 bits in 16.
    Yuv420p10 = "yuv420p10le", Yuv, 10, (1, 1), alpha false, [at(0, 2, 0, 0), at(1, 2, 0, 0), at(2, 2, 0, 0)];
    /// Planar 4:2:2, 10 bits in 16.
    Yuv422p10 = "yuv422p10le", Yuv, 10, (1, 0), alpha false, [at(0, 2, 0, 0), at(1, 2, 0, 0), at(2, 2, 0, 0)];
    /// Planar 4:4:4, 10 bits in 16.
    Yuv444p10 = "yuv444p10le", Yuv, 10, (0, 0), alpha false, [at(0, 2, 0, 0), at(1, 2, 0, 0), at(2, 2, 0, 0)];
    /// Planar 4:2:0, 12 bits in 16.
    Yuv420p12 = "yuv420p12le", Yuv, 12, (1, 1), alpha false, [at(0, 2, 0, 0), at(1, 2, 0, 0), at(2, 2, 0, 0)];
    /// Planar 4:2:2, 12 bits in 16.
    Yuv422p12 = "yuv422p12le", Yuv, 12, (1, 0), alpha false, [at(0, 2, 0, 0), at(1, 2, 0, 0), at(2, 2, 0, 0)];
    /// Planar 4:4:4, 12 bits in 16.
    Yuv444p12 = "yuv444p12le", Yuv, 12, (0, 0), alpha false, [at(0, 2, 0, 0), at(1, 2, 0, 0), at(2, 2, 0, 0)];
    /// Planar 4:2:0, 16 bits.
    Yuv420p16 = "yuv420p16le", Yuv, 16, (1, 1), alpha false, [at(0, 2, 0, 0), at(1, 2, 0, 0), at(2, 2, 0, 0)];
    /// Planar 4:2:2, 16 bits.
    Yuv422p16 = "yuv422p16le", Yuv, 16, (1, 0), alpha false, [at(0, 2, 0, 0), at(1, 2, 0, 0), at(2, 2, 0, 0)];
    /// Planar 4:4:4, 16 bits.
    Yuv444p16 = "yuv444p16le", Yuv, 16, (0, 0), alpha false, [at(0, 2, 0, 0), at(1, 2, 0, 0), at(2, 2, 0, 0)];
    /// Planar 4:2:0 with alpha, 8 bits.
    Yuva420p = "yuva420p", Yuv, 8, (1, 1), alpha true, [at(0, 1, 0, 0), at(1, 1, 0, 0), at(2, 1, 0, 0), at(3, 1, 0, 0)];
    /// Planar 4:4:4 with alpha, 8 bits.
    Yuva444p = "yuva444p", Yuv, 8, (0, 0), alpha true, [at(0, 1, 0, 0), at(1, 1, 0, 0), at(2, 1, 0, 0), at(3, 1, 0, 0)];
    /// Planar 4:4:4 with alpha, 10 bits in 16 (ProRes 4444).
    Yuva444p10 = "yuva444p10le", Yuv, 10, (0, 0), alpha true, [at(0, 2, 0, 0), at(1, 2, 0, 0), at(2, 2, 0, 0), at(3, 2, 0, 0)];
    /// Planar 4:4:4 with alpha, 12 bits in 16 (ProRes 4444 XQ).
    Yuva444p12 = "yuva444p12le", Yuv, 12, (0, 0), alpha true, [at(0, 2, 0, 0), at(1, 2, 0, 0), at(2, 2, 0, 0), at(3, 2, 0, 0)];
    /// Planar 4:4:4 with alpha, 16 bits.
    Yuva444p16 = "yuva444p16le", Yuv, 16, (0, 0), alpha true, [at(0, 2, 0, 0), at(1, 2, 0, 0), at(2, 2, 0, 0), at(3, 2, 0, 0)];
    /// Luma plane, then interleaved 4:2:0 chroma, 8 bits; the usual output of GPU decoders.
    Nv12 = "nv12", Yuv, 8, (1, 1), alpha false, [at(0, 1, 0, 0), at(1, 2, 0, 0), at(1, 2, 1, 0)];
    /// NV12 with 10 bits in the high bits of 16.
    P010 = "p010le", Yuv, 10, (1, 1), alpha false, [at(0, 2, 0, 6), at(1, 4, 0, 6), at(1, 4, 2, 6)];
    /// Packed R, G, B.
    Rgb24 = "rgb24", Rgb, 8, (0, 0), alpha false, [at(0, 3, 0, 0), at(0, 3, 1, 0), at(0, 3, 2, 0)];
    /// Packed B, G, R.
    Bgr24 = "bgr24", Rgb, 8, (0, 0), alpha false, [at(0, 3, 2, 0), at(0, 3, 1, 0), at(0, 3, 0, 0)];
    /// Packed R, G, B, alpha.
    Rgba = "rgba", Rgb, 8, (0, 0), alpha true, [at(0, 4, 0, 0), at(0, 4, 1, 0), at(0, 4, 2, 0), at(0, 4, 3, 0)];
    /// Packed B, G, R, alpha.
    Bgra = "bgra", Rgb, 8, (0, 0), alpha true, [at(0, 4, 2, 0), at(0, 4, 1, 0), at(0, 4, 0, 0), at(0, 4, 3, 0)];
    /// Packed B, G, R and an unused byte (GIF, screen capture).
    Bgr0 = "bgr0", Rgb, 8, (0, 0), alpha false, [at(0, 4, 2, 0), at(0, 4, 1, 0), at(0, 4, 0, 0)];
    /// Planar G, B, R, 8 bits.
    Gbrp = "gbrp", Rgb, 8, (0, 0), alpha false, [at(2, 1, 0, 0), at(0, 1, 0, 0), at(1, 1, 0, 0)];
    /// Planar G, B, R, 10 bits in 16.
    Gbrp10 = "gbrp10le", Rgb, 10, (0, 0), alpha false, [at(2, 2, 0, 0), at(0, 2, 0, 0), at(1, 2, 0, 0)];
    /// Planar G, B, R, 12 bits in 16.
    Gbrp12 = "gbrp12le", Rgb, 12, (0, 0), alpha false, [at(2, 2, 0, 0), at(0, 2, 0, 0), at(1, 2, 0, 0)];
    /// Planar G, B, R, alpha, 8 bits.
    Gbrap = "gbrap", Rgb, 8, (0, 0), alpha true, [at(2, 1, 0, 0), at(0, 1, 0, 0), at(1, 1, 0, 0), at(3, 1, 0, 0)];
    /// Packed R, G, B, 16 bits each (PNG).
    Rgb48 = "rgb48le", Rgb, 16, (0, 0), alpha false, [at(0, 6, 0, 0), at(0, 6, 2, 0), at(0, 6, 4, 0)];
    /// Packed R, G, B, alpha, 16 bits each (PNG).
    Rgba64 = "rgba64le", Rgb, 16, (0, 0), alpha true, [at(0, 8, 0, 0), at(0, 8, 2, 0), at(0, 8, 4, 0), at(0, 8, 6, 0)];
}

impl PixelFormat {
    /// FFmpeg's name.
    pub fn name(self) -> &'static str {
        self.descriptor().name
    }

    /// The colour model.
    pub fn family(self) -> PixelFamily {
        self.descriptor().family
    }

    /// Significant bits of a sample.
    pub fn bits(self) -> u32 {
        self.descriptor().bits
    }

    /// Bytes per stored sample: 1 or 2.
    pub fn sample_bytes(self) -> usize {
        if self.bits() > 8 { 2 } else { 1 }
    }

    /// Colour components in the family's order, then alpha if there is one.
    pub fn components(self) -> &'static [Component] {
        self.descriptor().components
    }

    /// Colour components without alpha.
    pub fn color_components(self) -> &'static [Component] {
        let descriptor = self.descriptor();
        let count = descriptor.components.len() - usize::from(descriptor.alpha);
        &descriptor.components[..count]
    }

    /// Whether the last component is alpha.
    pub fn has_alpha(self) -> bool {
        self.descriptor().alpha
    }

    /// log2 of the chroma subsampling, horizontal and vertical; (0, 0) outside Y'CbCr.
    pub fn chroma_shift(self) -> (u32, u32) {
        self.descriptor().chroma_shift
    }

    /// Number of planes.
    pub fn planes(self) -> usize {
        self.components().iter().map(|component| component.plane).max().map_or(0, |last| last + 1)
    }

    /// Whether a component is subsampled chroma.
    pub fn is_chroma(self, component: usize) -> bool {
        self.family() == PixelFamily::Yuv && (component == 1 || component == 2)
    }

    /// Samples of a component in a frame of this size, as (columns, rows); odd sizes round up.
    pub fn component_size(self, component: usize, width: u32, height: u32) -> (u32, u32) {
        if !self.is_chroma(component) {
            return (width, height);
        }
        let (sx, sy) = self.chroma_shift();
        (width.div_ceil(1 << sx), height.div_ceil(1 << sy))
    }

    /// Bytes in a row and rows of a plane in a frame of this size, without padding.
    pub fn plane_size(self, plane: usize, width: u32, height: u32) -> (usize, usize) {
        let first = self.components().iter().position(|component| component.plane == plane);
        let Some(component) = first else { return (0, 0) };
        let (columns, rows) = self.component_size(component, width, height);
        (columns as usize * self.components()[component].step_bytes, rows as usize)
    }

    /// Maximum sample value.
    pub fn max_value(self) -> u32 {
        (1 << self.bits()) - 1
    }
}

impl fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PixelFormat {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        PixelFormat::ALL.iter().copied().find(|format| format.name() == name).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_read_back() {
        for format in PixelFormat::ALL {
            assert_eq!(format.name().parse::<PixelFormat>(), Ok(*format));
        }
    }

    #[test]
    fn odd_sizes_round_chroma_up() {
        assert_eq!(PixelFormat::Yuv420p.plane_size(1, 5, 3), (3, 2));
        assert_eq!(PixelFormat::Nv12.plane_size(1, 5, 3), (6, 2));
        assert_eq!(PixelFormat::Yuv420p10.plane_size(0, 5, 3), (10, 3));
        assert_eq!(PixelFormat::Rgb24.plane_size(0, 5, 3), (15, 3));
    }

    #[test]
    fn components_stay_within_their_plane() {
        for format in PixelFormat::ALL {
            for (index, component) in format.components().iter().enumerate() {
                let (row_bytes, rows) = format.plane_size(component.plane, 7, 5);
                let (columns, component_rows) = format.component_size(index, 7, 5);
                let last = component.offset_bytes + (columns as usize - 1) * component.step_bytes + format.sample_bytes();
                assert!(last <= row_bytes, "{format} component {index}");
                assert_eq!(rows, component_rows as usize);
            }
        }
    }
}
