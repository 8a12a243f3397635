//! Decoder objects, cached between files: creating one takes the driver 15 ms or more.

use std::{
    collections::HashMap,
    ffi::c_int,
    sync::{Arc, OnceLock},
    time::Instant,
};

use parking_lot::Mutex;

use super::{codec, ffi, format::StreamFormat, library::library, shelf::Shelf};
use crate::{CudaDevice, CudaError, CudaStream, memory::release_memory};

/// Maximum number of frames mapped at the same time.
pub(super) const OUTPUT_SURFACES: u32 = 4;

/// Approximate device memory of a decoder besides its surfaces.
const DRIVER_BYTES: u64 = 8 << 20;

/// A decoder object of the driver.
pub(super) struct HardwareDecoder {
    device: Arc<CudaDevice>,
    handle: ffi::Decoder,
    format: StreamFormat,
    surfaces: u32,
    /// Maximum coded size it was created for.
    max_size: (u32, u32),
}

// SAFETY: any thread may use the driver's decoders, one at a time, which `&mut self` ensures.
unsafe impl Send for HardwareDecoder {}

static CREATING: Mutex<()> = Mutex::new(());

type Kept = HashMap<u32, Shelf<HardwareDecoder>>;
static KEPT: OnceLock<Mutex<Kept>> = OnceLock::new();

fn kept() -> &'static Mutex<Kept> {
    KEPT.get_or_init(Mutex::default)
}

/// Releases the decoders cached for a device, with their memory.
pub fn release_decoders(device: &CudaDevice) {
    let released = kept().lock().remove(&device.info().ordinal);
    drop(released);
}

impl HardwareDecoder {
    /// Returns a decoder for the format: a cached one or a new one.
    pub(super) fn obtain(device: &Arc<CudaDevice>, format: &StreamFormat, surfaces: u32) -> Result<Self, CudaError> {
        let (found, excess) = {
            let mut kept = kept().lock();
            let shelf = kept.entry(device.info().ordinal).or_default();
            (shelf.take(|decoder| decoder.can_become(format, surfaces)), shelf.excess(Instant::now(), HardwareDecoder::bytes))
        };
        drop(excess);
        // If it cannot be reconfigured, it is destroyed.
        if let Some(mut decoder) = found
            && decoder.become_fit(format, surfaces).is_ok()
        {
            return Ok(decoder);
        }
        match Self::create(device, format, surfaces) {
            Err(CudaError::OutOfMemory { .. }) => {
                release_memory(device);
                Self::create(device, format, surfaces)
            }
            other => other,
        }
    }

    fn create(device: &Arc<CudaDevice>, format: &StreamFormat, surfaces: u32) -> Result<Self, CudaError> {
        let capability = codec::capability(device, format.codec, format.chroma, format.bits)?
            .ok_or_else(|| codec::unsupported(format.codec, format.chroma, format.bits))?;
        capability.check_size(format.coded_size.0, format.coded_size.1)?;
        if capability.output_formats & (1 << format.output_format()) == 0 {
            return Err(codec::unsupported(format.codec, format.chroma, format.bits));
        }
        let (width, height) = format.coded_size;
        let mut info = ffi::CreateInfo {
            width: width.into(),
            height: height.into(),
            decode_surfaces: surfaces.into(),
            codec: format.codec.id(),
            chroma_format: format.chroma.id(),
            creation_flags: 0,
            bit_depth_minus8: u64::from(format.bits - 8),
            intra_only: 0,
            max_width: width.into(),
            max_height: height.into(),
            reserved1: 0,
            display_area: ffi::ShortRect::default(),
            output_format: format.output_format(),
            deinterlace_mode: 0,
            target_width: u64::from(width.next_multiple_of(2)),
            target_height: u64::from(height.next_multiple_of(2)),
            output_surfaces: OUTPUT_SURFACES.into(),
            lock: std::ptr::null_mut(),
            target_rect: ffi::ShortRect::default(),
            enable_histogram: 0,
            reserved2: [0; 4],
        };
        // The driver creates one at a time anyway, 43 ms each on an H200; concurrent requests all return only when the last is done.
        let _one_at_a_time = CREATING.lock();
        let (entered, began) = (device.enter()?, Instant::now());
        let mut handle = std::ptr::null_mut();
        // SAFETY: an out value and a structure of the header's layout, with a current context.
        let code = unsafe { (library()?.create_decoder)(&mut handle, &mut info) };
        let what = format!("creating a decoder for {} {} {} bit at {width}x{height}", format.codec, format.chroma, format.bits);
        let bytes = u64::from(surfaces) * u64::from(width) * u64::from(height) * 3 / 2;
        entered.check_code(code, &what).map_err(|error| device.explain(error, bytes as usize))?;
        log::debug!("{what} took {:.1} ms", began.elapsed().as_secs_f64() * 1000.0);
        Ok(Self { device: Arc::clone(device), handle, format: format.clone(), surfaces, max_size: format.coded_size })
    }

    /// Whether it can decode the format, possibly after [`HardwareDecoder::become_fit`].
    pub(super) fn can_become(&self, format: &StreamFormat, surfaces: u32) -> bool {
        let fits = format.coded_size.0 <= self.max_size.0 && format.coded_size.1 <= self.max_size.1;
        self.format.same_kind(format) && fits && surfaces <= self.surfaces
    }

    /// Reconfigures it if the size differs.
    pub(super) fn become_fit(&mut self, format: &StreamFormat, surfaces: u32) -> Result<(), CudaError> {
        debug_assert!(self.can_become(format, surfaces), "asked before");
        if self.format.coded_size != format.coded_size {
            let (width, height) = format.coded_size;
            let mut info = ffi::ReconfigureInfo {
                width,
                height,
                target_width: width.next_multiple_of(2),
                target_height: height.next_multiple_of(2),
                decode_surfaces: self.surfaces,
                reserved1: [0; 12],
                display_area: ffi::ShortRect::default(),
                target_rect: ffi::ShortRect::default(),
                reserved2: [0; 11],
            };
            let entered = self.device.enter()?;
            // SAFETY: a live decoder and a structure of the header's layout; no frame is mapped.
            entered.check_code(unsafe { (library()?.reconfigure)(self.handle, &mut info) }, "reconfiguring a decoder")?;
        }
        self.format = format.clone();
        Ok(())
    }

    /// Approximate device memory: its surfaces at the size it was created for, and the driver's buffers.
    fn bytes(&self) -> u64 {
        let sample = u64::from(self.format.bits.div_ceil(8));
        let image = u64::from(self.max_size.0) * u64::from(self.max_size.1) * sample * 3 / 2;
        u64::from(self.surfaces + OUTPUT_SURFACES) * image + DRIVER_BYTES
    }

    /// Number of surfaces it decodes into.
    pub(super) fn surfaces(&self) -> u32 {
        self.surfaces
    }

    /// Queues a frame for decoding.
    ///
    /// # Safety
    /// `picture` comes from the parser.
    pub(super) unsafe fn decode(&mut self, image: *mut ffi::PictureParameters) -> Result<(), CudaError> {
        let entered = self.device.enter()?;
        // SAFETY: a live decoder; the rest is guaranteed by the caller.
        entered.check_code(unsafe { (library()?.decode_picture)(self.handle, image) }, "decoding a frame")
    }

    /// Maps a decoded frame to device memory: address and pitch. Waits until it is decoded.
    pub(super) fn map(&mut self, info: &ffi::DisplayInfo, stream: &CudaStream) -> Result<(u64, usize), CudaError> {
        let mut parameters = ffi::ProcessParameters {
            progressive_frame: info.progressive_frame,
            second_field: 0,
            top_field_first: info.top_field_first,
            unpaired_field: c_int::from(info.repeat_first_field < 0),
            reserved_flags: 0,
            reserved_zero: 0,
            raw_input_address: 0,
            raw_input_pitch: 0,
            raw_input_format: 0,
            raw_output_address: 0,
            raw_output_pitch: 0,
            reserved1: 0,
            output_stream: stream.raw(),
            reserved: [0; 46],
            histogram_address: std::ptr::null_mut(),
            reserved2: [std::ptr::null_mut()],
        };
        let (mut address, mut pitch) = (0, 0);
        let entered = self.device.enter()?;
        // SAFETY: out values, a live decoder and a picture index from the parser.
        let code = unsafe { (library()?.map)(self.handle, info.picture_index, &mut address, &mut pitch, &mut parameters) };
        entered.check_code(code, "mapping a decoded frame")?;
        Ok((address, pitch as usize))
    }

    /// Unmaps a frame; nothing may read it any more.
    pub(super) fn unmap(&mut self, address: u64) -> Result<(), CudaError> {
        let entered = self.device.enter()?;
        // SAFETY: a live decoder and an address from `map`.
        entered.check_code(unsafe { (library()?.unmap)(self.handle, address) }, "unmapping a decoded frame")
    }

    /// Whether the frame has errors, concealed or not. False for codecs for which the driver does not report errors.
    pub(super) fn has_errors(&self, picture_index: c_int) -> bool {
        let mut status = ffi::DecodeStatus { status: 0, reserved: [0; 31], reserved_pointers: [std::ptr::null_mut(); 8] };
        let (Ok(library), Ok(_entered)) = (library(), self.device.enter()) else { return false };
        // SAFETY: a structure of the header's layout, a live decoder and a picture index from the parser.
        let code = unsafe { (library.decode_status)(self.handle, picture_index, &mut status) };
        code == 0 && (status.status == ffi::STATUS_ERROR || status.status == ffi::STATUS_ERROR_CONCEALED)
    }

    /// Caches the decoder for the next file. No frame may be mapped.
    pub(super) fn keep(self) {
        let mut kept = kept().lock();
        let shelf = kept.entry(self.device.info().ordinal).or_default();
        shelf.put(self);
        let excess = shelf.excess(Instant::now(), HardwareDecoder::bytes);
        drop(kept);
        drop(excess);
    }
}

impl Drop for HardwareDecoder {
    fn drop(&mut self) {
        if let (Ok(_entered), Ok(library)) = (self.device.enter(), library()) {
            let began = Instant::now();
            // SAFETY: created by us, destroyed once, no frame mapped.
            unsafe { (library.destroy_decoder)(self.handle) };
            log::debug!("destroying a decoder took {:.1} ms", began.elapsed().as_secs_f64() * 1000.0);
        }
    }
}
