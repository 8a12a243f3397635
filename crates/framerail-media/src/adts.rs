//! The header in each packet of AAC from transport streams, which containers such as MP4 store once for the whole stream.

/// Sample rates by their index in the header.
const RATES: [u32; 13] = [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
/// Profile, sample rate and channels in the third and fourth byte.
const SETTINGS: u16 = 0xfdc0;

/// Checks that packets keep the settings of the first one, since players would decode others as noise.
pub(crate) struct AdtsCheck {
    /// Of the stream, for the warning.
    name: String,
    first: Option<u16>,
    /// Settings of a packet that differs, and the number of such packets.
    other: u16,
    refused: u64,
}

impl AdtsCheck {
    pub(crate) fn new(name: String) -> Self {
        Self { name, first: None, other: 0, refused: 0 }
    }

    /// Whether a packet has the settings of the first one, or states none.
    pub(crate) fn fits(&mut self, packet: &[u8]) -> bool {
        let [0xff, sync, third, fourth, ..] = packet else { return true };
        if sync & 0xf6 != 0xf0 {
            return true;
        }
        let settings = u16::from_be_bytes([*third, *fourth]) & SETTINGS;
        let is_same = *self.first.get_or_insert(settings) == settings;
        if !is_same {
            self.other = settings;
            self.refused += 1;
        }
        is_same
    }

    /// The warning at the end.
    pub(crate) fn warning(&self) -> Option<String> {
        let (name, refused, first) = (&self.name, self.refused, self.first.filter(|_| self.refused > 0)?);
        Some(format!(
            "{name} changes from {} to {}: {refused} packet{} dropped, since the container stores one setting; audio=encode keeps them",
            described(first),
            described(self.other),
            if refused == 1 { " is" } else { "s are" }
        ))
    }
}

fn described(settings: u16) -> String {
    let rate = RATES.get(usize::from(settings >> 10 & 0xf)).copied().unwrap_or(0);
    let channels = settings >> 6 & 7;
    format!("{rate} Hz, {channels} channel{}", if channels == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_keep_the_settings_of_the_first() {
        let mut check = AdtsCheck::new("audio stream (aac)".into());
        let packet = |rate: u8, channels: u8| [0xff, 0xf1, 1 << 6 | rate << 2 | channels >> 2, channels << 6 | 0x3f, 0x10, 0x1f, 0xfc];
        assert!(check.fits(&packet(4, 2)) && check.fits(b"raw AAC") && check.fits(&packet(4, 2)) && check.warning().is_none());
        assert!(!check.fits(&packet(7, 1)) && check.fits(&packet(4, 2)));
        let warning = check.warning().expect("a change");
        assert!(warning.contains("changes from 44100 Hz, 2 channels to 22050 Hz, 1 channel: 1 packet is dropped"), "{warning}");
    }
}
