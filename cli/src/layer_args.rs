//! How layers are kept and mounted, as typed.

use engine::{LayerBacking, LayerWay, StoredForm};

/// `--layer-form`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LayerFormArg {
    /// As suits: large layers packed where the kernel can, small ones and those of RUN as directories.
    Auto,
    /// As directories. Packed ones become that when they are used.
    Dir,
    /// As one file each that is mounted, where the kernel can.
    Packed,
}

/// `--layer-mount`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LayerMountArg {
    /// As the kernel can.
    Auto,
    /// From the files themselves (Linux 6.12), attached nowhere (Linux 6.15).
    File,
    /// From the files themselves, attached for a moment where containers are made.
    FileAttached,
    /// From loop devices, attached nowhere.
    Loop,
    /// From loop devices, attached for a moment where containers are made.
    LoopAttached,
}

impl LayerMountArg {
    /// The way; `None` is to be found out.
    pub(crate) fn way(self) -> Option<LayerWay> {
        let (backing, attached) = match self {
            Self::Auto => return None,
            Self::File => (LayerBacking::File, false),
            Self::FileAttached => (LayerBacking::File, true),
            Self::Loop => (LayerBacking::Loop, false),
            Self::LoopAttached => (LayerBacking::Loop, true),
        };
        Some(LayerWay { backing, attached })
    }
}

impl From<LayerFormArg> for StoredForm {
    fn from(form: LayerFormArg) -> Self {
        match form {
            LayerFormArg::Auto => Self::Auto,
            LayerFormArg::Dir => Self::Dir,
            LayerFormArg::Packed => Self::Packed,
        }
    }
}
