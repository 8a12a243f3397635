//! Times the steps of opening a file and reading its first frame.

use std::{path::PathBuf, sync::Arc, time::Instant};

use framerail_cuda::{
    CudaDevice, CudaError, CudaStream, CudaSurface, DevicePool,
    nvdec::{FrameSink, MappedFrame, NvdecCodec, NvdecSession},
};
use framerail_media::{BitstreamFilter, Input, InputOptions, PacketKind, ProbeEffort, bitstream_filter::parser_headers};
use serde_json::{Map, Value, json};

/// Options of the `steps` job.
#[derive(clap::Args)]
pub(crate) struct Steps {
    /// Input file: H.264 in MP4.
    clip: PathBuf,
    /// Number of repetitions.
    #[arg(long, default_value_t = 50)]
    count: u32,
}

struct First {
    pool: DevicePool,
    surface: Option<CudaSurface>,
}

impl FrameSink for First {
    fn wants(&mut self, _: &framerail_cuda::nvdec::MappedFrameInfo) -> bool {
        self.surface.is_none()
    }

    fn image(&mut self, image: &MappedFrame<'_>) -> Result<(), CudaError> {
        let planes = &image.planes;
        let surface = CudaSurface::new(&self.pool, planes.format(), planes.width(), planes.height())?;
        surface.copy_from(planes, image.stream)?;
        self.surface = Some(surface);
        Ok(())
    }
}

impl Steps {
    pub(crate) fn run(&self, device: &Arc<CudaDevice>) -> anyhow::Result<()> {
        let pool = DevicePool::new(device, 1 << 28)?;
        let mut sums: Vec<(&str, f64)> = Vec::new();
        for round in 0..=self.count {
            let mut clock = Instant::now();
            let mut steps = Vec::new();
            let mut step = |name| {
                steps.push((name, clock.elapsed().as_secs_f64()));
                clock = Instant::now();
            };
            let options = InputOptions { probe: ProbeEffort::Header, ..crate::read::input(&self.clip) };
            let mut input = Input::open(&options)?;
            step("open the file");
            let stream = CudaStream::new(device)?;
            step("make a stream");
            let mut filter = BitstreamFilter::for_parser(input.parameters())?;
            let headers = parser_headers(input.parameters())?;
            step("make a filter");
            let sink = First { pool: pool.clone(), surface: None };
            let mut session = NvdecSession::new(device, NvdecCodec::H264, &headers, &stream, sink)?;
            step("make a parser");
            let (mut sent, mut first) = (0, None);
            while session.sink().surface.is_none() {
                let Some(packet) = input.next_packet()? else { break };
                if packet.kind != PacketKind::Video {
                    continue;
                }
                let packets = match &mut filter {
                    Some(filter) => filter.filter(packet)?,
                    None => vec![packet],
                };
                for packet in packets {
                    session.send(packet.data(), packet.pts())?;
                    first.get_or_insert_with(|| step("send the first packet"));
                    sent += 1;
                }
            }
            step("send packets until a frame arrives");
            stream.synchronize()?;
            step("wait for it");
            drop(session);
            step("drop the session");
            drop(stream);
            step("drop the stream");
            drop(input);
            step("close the file");
            if round == 0 {
                sums = steps.iter().map(|(name, _)| (*name, 0.0)).collect();
                println!("{sent} packets until the first frame");
            } else {
                sums.iter_mut().zip(&steps).for_each(|(sum, step)| sum.1 += step.1);
            }
        }
        let millis: Map<String, Value> =
            sums.iter().map(|(name, sum)| ((*name).to_owned(), json!((sum * 1e6 / f64::from(self.count)).round() / 1e3))).collect();
        println!("{}", json!({ "job": "steps", "millis": millis }));
        Ok(())
    }
}
