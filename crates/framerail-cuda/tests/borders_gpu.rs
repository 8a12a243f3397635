//! Tests on a real GPU: contexts of other libraries stay current, and memory is never reused before its last use.
//!
//! Needs a GPU and its driver; prints a warning if there is none.

use std::{ptr, sync::Arc};

use cudarc::driver::sys;
use framerail_core::PixelFormat;
use framerail_cuda::{CudaDevice, CudaEvent, CudaStream, CudaSurface, DevicePool, Download, PinnedPool, Uploads, nvdec, release_memory};

/// The first GPU, or `None` with a warning.
fn gpu() -> Option<Arc<CudaDevice>> {
    match CudaDevice::open(0) {
        Ok(device) => Some(device),
        Err(error) => {
            eprintln!("GPU TESTS DID NOT RUN: {error}");
            assert!(std::env::var_os("FRAMERAIL_REQUIRE_GPU").is_none(), "FRAMERAIL_REQUIRE_GPU is set, and there is no GPU");
            None
        }
    }
}

fn current() -> sys::CUcontext {
    let mut current = ptr::null_mut();
    // SAFETY: an out value, with an initialised driver.
    let code = unsafe { sys::cuCtxGetCurrent(&mut current) };
    assert_eq!(code, sys::CUresult::CUDA_SUCCESS);
    current
}

/// Uses every kind of call, and drops all memory at the end.
fn use_everything(device: &Arc<CudaDevice>) {
    device.memory().expect("a working GPU");
    let (stream, pool, pinned) =
        (CudaStream::new(device).expect("a stream"), DevicePool::new(device, 1 << 20).expect("a pool"), PinnedPool::new(device, 2));
    let buffer = pool.buffer(4096).expect("room");
    buffer.fill(7, &stream).expect("a working GPU");
    Uploads::new(device).queue(&[1; 16], &buffer, 0, &stream).expect("a working GPU");
    let bytes = Download::queue(&buffer, 0, 32, &pinned, &stream).expect("queued").wait().expect("a working GPU");
    assert_eq!(bytes.bytes()[..32], [[1_u8; 16], [7; 16]].concat());
    let surface = CudaSurface::new(&pool, PixelFormat::Nv12, 64, 48).expect("room");
    let host = surface.download(&pinned, &stream).expect("a working GPU");
    CudaSurface::upload(&host, &pool, &stream).expect("room");
    let event = CudaEvent::of_everything(device).expect("a working GPU");
    event.synchronize().expect("a working GPU");
    buffer.end_foreign_use(true).expect("a working GPU");
    let _ = nvdec::capabilities(device);
    device.synchronize().expect("a working GPU");
    drop((buffer, surface));
    release_memory(device);
}

#[test]
fn the_callers_context_is_current_again_after_every_call_and_drop() {
    let Some(device) = gpu() else { return };
    let (mut own, mut handle) = (ptr::null_mut(), 0);
    // SAFETY: out values; the context is ours and destroyed below.
    let made = unsafe {
        assert_eq!(sys::cuDeviceGet(&mut handle, 0), sys::CUresult::CUDA_SUCCESS);
        sys::cuCtxCreate_v2(&mut own, 0, handle)
    };
    assert_eq!((made, current()), (sys::CUresult::CUDA_SUCCESS, own));
    use_everything(&device);
    assert_eq!(current(), own);
    let on_a_thread = {
        let device = Arc::clone(&device);
        std::thread::spawn(move || {
            use_everything(&device);
            current().is_null()
        })
    };
    assert!(on_a_thread.join().expect("no panic"), "a thread without a context has none afterwards");
    assert_eq!(current(), own);
    // SAFETY: created above, and no longer used.
    assert_eq!(unsafe { sys::cuCtxDestroy_v2(own) }, sys::CUresult::CUDA_SUCCESS);
}

#[test]
fn page_locked_memory_is_not_handed_out_while_a_copy_uses_it() {
    let Some(device) = gpu() else { return };
    let (stream, pool, pinned) =
        (CudaStream::new(&device).expect("a stream"), DevicePool::new(&device, 1 << 28).expect("a pool"), PinnedPool::new(&device, 1));
    let big = pool.buffer(64 << 20).expect("room");
    for round in 0_u8..8 {
        big.fill(round, &stream).expect("a working GPU");
        // Dropped while its copy is queued; the next buffer gets the same memory.
        drop(Download::queue(&big, 0, 64 << 20, &pinned, &stream).expect("queued"));
        let mut next = pinned.buffer(64 << 20).expect("room");
        next.bytes_mut().fill(0xee);
        device.synchronize().expect("a working GPU");
        assert!(next.bytes().iter().all(|byte| *byte == 0xee), "the dropped copy wrote into memory that was handed out again");
    }
}

#[test]
fn memory_that_another_library_used_waits_for_streams_that_nobody_named() {
    let Some(device) = gpu() else { return };
    let (ours, pool) = (CudaStream::new(&device).expect("a stream"), DevicePool::new(&device, 1 << 28).expect("a pool"));
    let bytes = 32 << 20;
    for round in 0_u8..8 {
        let (buffer, target) = (pool.buffer(bytes).expect("room"), pool.buffer(bytes).expect("room"));
        buffer.fill(round, &ours).expect("a working GPU");
        ours.synchronize().expect("a working GPU");
        with_primary(|| {
            let mut theirs = ptr::null_mut();
            // SAFETY: an out value, then a live stream and two live buffers of this size. Destroying the stream finishes pending work.
            unsafe {
                assert_eq!(sys::cuStreamCreate(&mut theirs, 1), sys::CUresult::CUDA_SUCCESS);
                for _ in 0..64 {
                    sys::cuMemsetD8Async(target.address(), 0xaa, bytes, theirs);
                }
                sys::cuMemcpyDtoDAsync_v2(target.address(), buffer.address(), bytes, theirs);
                sys::cuStreamDestroy_v2(theirs);
            }
        });
        buffer.end_foreign_use(false).expect("a working GPU");
        drop(buffer);
        let again = pool.buffer(bytes).expect("room");
        again.fill(0xbb, &ours).expect("a working GPU");
        device.synchronize().expect("a working GPU");
        let mut found = vec![0; bytes];
        target.download(0, &mut found, &ours).expect("a working GPU");
        assert!(found.iter().all(|byte| *byte == round), "round {round}: overwritten while it was read");
    }
}

/// Runs a driver call with the first GPU's primary context current.
fn with_primary<T>(call: impl FnOnce() -> T) -> T {
    let (mut context, mut before) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: out values; the open device retains the primary context.
    unsafe {
        sys::cuDevicePrimaryCtxRetain(&mut context, 0);
        sys::cuCtxGetCurrent(&mut before);
        #[expect(clippy::disallowed_methods, reason = "another library's part, played by the test")]
        sys::cuCtxSetCurrent(context);
    }
    let result = call();
    #[expect(clippy::disallowed_methods, reason = "as above")]
    // SAFETY: the context that was current before.
    unsafe {
        sys::cuCtxSetCurrent(before);
    }
    result
}
