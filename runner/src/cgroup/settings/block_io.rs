//! Reading and writing of block devices.

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice};

use super::Settings;
use crate::cgroup::hierarchy::Version;

/// A kind of limit of a device: what it is called, the file of version 1, the word of version 2's.
type Throttle = (&'static str, &'static [&'static str], &'static str);

const READ_BYTES: Throttle = ("a device's reading rate", &["blkio.throttle.read_bps_device"], "rbps");
const WRITE_BYTES: Throttle = ("a device's writing rate", &["blkio.throttle.write_bps_device"], "wbps");
const READS: Throttle = ("a device's reads", &["blkio.throttle.read_iops_device"], "riops");
const WRITES: Throttle = ("a device's writes", &["blkio.throttle.write_iops_device"], "wiops");

impl Settings {
    pub(super) fn io(&mut self, io: &LinuxBlockIo) {
        if let Some(weight) = io.weight().filter(|&weight| weight > 0) {
            let files: [&[&str]; 2] =
                [&["blkio.weight", "blkio.bfq.weight"], &["io.weight", "io.bfq.weight"]];
            self.add("the weight of block devices", files, self.weight(weight));
        }
        if let Some(weight) = io.leaf_weight().filter(|&weight| weight > 0) {
            self.add("the weight of block devices for its own", [&["blkio.leaf_weight"], &[]], weight);
        }
        for device in io.weight_device().iter().flatten() {
            if let Some(weight) = device.weight().filter(|&weight| weight > 0) {
                let value = format!("{}:{} {}", device.major(), device.minor(), self.weight(weight));
                let files: [&[&str]; 2] =
                    [&["blkio.weight_device", "blkio.bfq.weight_device"], &["io.weight", "io.bfq.weight"]];
                self.add("the weight of a block device", files, value);
            }
        }
        self.throttle(READ_BYTES, io.throttle_read_bps_device());
        self.throttle(WRITE_BYTES, io.throttle_write_bps_device());
        self.throttle(READS, io.throttle_read_iops_device());
        self.throttle(WRITES, io.throttle_write_iops_device());
    }

    fn throttle(&mut self, kind: Throttle, devices: &Option<Vec<LinuxThrottleDevice>>) {
        let (what, first, word) = kind;
        for device in devices.iter().flatten() {
            let (number, rate) = (format!("{}:{}", device.major(), device.minor()), device.rate());
            let value = match self.version {
                Version::One => format!("{number} {rate}"),
                // No rate is no limit, as version 1 has it.
                Version::Two if rate == 0 => format!("{number} {word}=max"),
                Version::Two => format!("{number} {word}={rate}"),
            };
            self.add(what, [first, &["io.max"]], value);
        }
    }

    fn weight(&self, weight: u16) -> u64 {
        match self.version {
            Version::One => u64::from(weight),
            Version::Two => weight_of_io(weight),
        }
    }
}

/// A weight of block devices of version 1 (10 to 1000) as one of version 2 (1 to 10000).
fn weight_of_io(weight: u16) -> u64 {
    1 + (u64::from(weight).clamp(10, 1000) - 10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{
        LinuxBlockIoBuilder, LinuxResources, LinuxThrottleDeviceBuilder, LinuxWeightDeviceBuilder,
    };

    use super::super::tests::written;
    use super::*;

    #[test]
    fn devices_are_weighed_and_limited() {
        let device =
            |rate: u64| LinuxThrottleDeviceBuilder::default().major(8).minor(0).rate(rate).build().unwrap();
        let weighed = LinuxWeightDeviceBuilder::default().major(8).minor(1).weight(10u16).build().unwrap();
        let io = LinuxBlockIoBuilder::default()
            .weight(500u16)
            .weight_device([weighed])
            .throttle_read_bps_device([device(1000)])
            .throttle_write_iops_device([device(0)])
            .build()
            .unwrap();
        let mut resources = LinuxResources::default();
        resources.set_block_io(Some(io));
        let first = [
            "blkio.weight=500",
            "blkio.weight_device=8:1 10",
            "blkio.throttle.read_bps_device=8:0 1000",
            "blkio.throttle.write_iops_device=8:0 0",
        ];
        assert_eq!(written(&resources, Version::One), first);
        let second = ["io.weight=4950", "io.weight=8:1 1", "io.max=8:0 rbps=1000", "io.max=8:0 wiops=max"];
        assert_eq!(written(&resources, Version::Two), second);
    }

    #[test]
    fn weights_keep_the_ends_of_their_ranges() {
        assert_eq!([10, 1000].map(weight_of_io), [1, 10_000]);
        assert_eq!(weight_of_io(5000), 10_000);
    }
}
