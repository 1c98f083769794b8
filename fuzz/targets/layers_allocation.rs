//! Whatever is read of an allocation is within its bounds.
#![no_main]
use exedra::rtp::vla::VideoLayersAllocation;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| {
    let Ok(allocation) = VideoLayersAllocation::parse(value) else { return };
    assert!(allocation.layers.len() <= 16 && allocation.stream < 4);
    for layer in &allocation.layers {
        assert!(layer.stream < 4 && layer.spatial < 4 && (1..=4).contains(&layer.temporal_layers));
        assert!(layer.target_kbps[usize::from(layer.temporal_layers)..].iter().all(|kbps| *kbps == 0));
        layer.total_kbps();
    }
});
