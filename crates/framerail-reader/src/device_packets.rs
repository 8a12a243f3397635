//! Decodes a stream packet by packet on one engine of a GPU.

use std::{collections::HashMap, sync::Arc};

use framerail_cuda::{
    CudaError, CudaStream,
    nvdec::{FrameSink, MappedFrame, MappedFrameInfo, NvdecSession},
};
use framerail_media::{BitstreamFilter, InputPacket};

use crate::{
    ReaderError,
    device_pieces::{DeviceFrame, DeviceSetup, ImageMaker, PacketTimes, no_sequence},
    fallback::PacketDecoder,
};

/// Maximum number of packets whose frames are awaited; the times of others are forgotten.
const MAX_AWAITED: usize = 1024;

/// Decodes packets as they are read.
pub(crate) struct DevicePackets {
    setup: Arc<DeviceSetup>,
    session: NvdecSession<QueueSink>,
    filter: Option<BitstreamFilter>,
    /// Number of packets so far, until the parser finds a sequence.
    unknown: usize,
}

/// Number of packets within which the GPU's parser must find a sequence.
const MAX_UNKNOWN: usize = 64;

impl DevicePackets {
    pub(crate) fn new(setup: &Arc<DeviceSetup>) -> Result<Self, ReaderError> {
        let failed = |error| setup.error(error);
        let stream = CudaStream::new(&setup.device).map_err(failed)?;
        let sink = QueueSink { maker: ImageMaker::new(setup), awaited: HashMap::new(), ready: Vec::new() };
        let headers = setup.headers()?;
        let session = NvdecSession::new(&setup.device, setup.codec, &headers, &stream, sink).map_err(failed)?;
        Ok(Self { setup: Arc::clone(setup), session, filter: BitstreamFilter::for_parser(&setup.parameters)?, unknown: 0 })
    }

    fn send_one(&mut self, packet: InputPacket) -> Result<(), ReaderError> {
        let packets = match &mut self.filter {
            Some(filter) => filter.filter(packet)?,
            None => vec![packet],
        };
        for packet in packets {
            let timestamp = packet.pts().map(|pts| self.setup.timestamp(pts));
            if let Some(timestamp) = timestamp {
                // Frames that an edit list hides are decoded, since others refer to them, and are not shown.
                let times = (!packet.is_discarded()).then(|| PacketTimes::of(&packet));
                self.session.sink().expect(timestamp, times);
            }
            self.session.send(packet.data(), timestamp).map_err(|error| self.setup.error(error))?;
            self.unknown = if self.session.format().is_none() { self.unknown + 1 } else { 0 };
        }
        if self.unknown > MAX_UNKNOWN { Err(self.setup.error(no_sequence())) } else { Ok(()) }
    }
}

impl PacketDecoder for DevicePackets {
    type Decoded = DeviceFrame;

    fn send(&mut self, packet: Option<InputPacket>) -> Result<(), ReaderError> {
        let (sent, is_last) = match packet {
            Some(packet) => (self.send_one(packet), false),
            None => {
                let flushed = self.session.flush().map_err(|error| self.setup.error(error));
                let is_unknown = self.session.format().is_none() && self.unknown > 0;
                (flushed.and_then(|()| if is_unknown { Err(self.setup.error(no_sequence())) } else { Ok(()) }), true)
            }
        };
        let is_over = is_last || matches!(sent, Err(ReaderError::NotOnDevice { .. }));
        self.setup.account(if is_over { self.session.pictures_decoded() } else { 0 });
        sent
    }

    fn take(&mut self) -> Vec<(Option<i64>, DeviceFrame)> {
        let ready = std::mem::take(&mut self.session.sink().ready);
        ready.into_iter().map(|image| (image.times.pts, image)).collect()
    }
}

/// Queues the frames of one engine.
struct QueueSink {
    maker: ImageMaker,
    /// By timestamp; `None` for frames that are not shown.
    awaited: HashMap<i64, Option<PacketTimes>>,
    ready: Vec<DeviceFrame>,
}

impl QueueSink {
    fn expect(&mut self, timestamp: i64, times: Option<PacketTimes>) {
        self.awaited.insert(timestamp, times);
        if self.awaited.len() > MAX_AWAITED {
            let oldest = self.awaited.keys().copied().min();
            oldest.and_then(|oldest| self.awaited.remove(&oldest));
        }
    }
}

impl FrameSink for QueueSink {
    fn wants(&mut self, info: &MappedFrameInfo) -> bool {
        let is_hidden = self.awaited.get(&info.timestamp).is_some_and(Option::is_none);
        if is_hidden {
            self.awaited.remove(&info.timestamp);
        }
        !is_hidden
    }

    fn image(&mut self, image: &MappedFrame<'_>) -> Result<(), CudaError> {
        let times = self.awaited.remove(&image.info.timestamp).flatten().unwrap_or_default();
        let image = self.maker.image(image, times, 0)?;
        self.ready.push(image);
        Ok(())
    }
}
