//! Where things lie (design: "Places on disk").

use crate::error::{Error, Result};
use crate::resolve::ServiceName;
use std::env;
use std::path::{Path, PathBuf};

/// The directories of one user, from the XDG base directory specification.
#[derive(Clone, Debug)]
pub struct Paths {
    data: PathBuf,
    config: PathBuf,
    cache: PathBuf,
    runtime: PathBuf,
    units: PathBuf,
    store: Option<PathBuf>,
}

impl Paths {
    /// From `XDG_*` and `HOME`.
    ///
    /// # Errors
    /// When neither `HOME` nor the XDG variables tell where to write; when `XDG_RUNTIME_DIR` is unset.
    pub fn from_env() -> Result<Paths> {
        // The XDG base directory specification: a relative path is to be ignored.
        let absolute = |key: &str| env::var_os(key).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME");
        let base = |key: &str, rest: &str| {
            absolute(key).or_else(|| home.as_ref().map(|home| home.join(rest))).ok_or_else(|| {
                Error::host(format!("neither `{key}` nor `HOME` is set")).hint("run steading in a login session of the user")
            })
        };
        let runtime = absolute("XDG_RUNTIME_DIR").ok_or_else(|| {
            Error::host("`XDG_RUNTIME_DIR` is not set, so the user's systemd cannot be reached")
                .hint("log in as the user (ssh, `machinectl shell USER@`), not by `su` or `sudo` alone")
        })?;
        let config = base("XDG_CONFIG_HOME", ".config")?;
        let data = base("XDG_DATA_HOME", ".local/share")?;
        Ok(Paths {
            units: data.join("systemd/user"),
            data: data.join("steading"),
            config: config.join("steading"),
            cache: base("XDG_CACHE_HOME", ".cache")?.join("steading"),
            runtime: runtime.join("steading"),
            store: None,
        })
    }

    /// Everything below `root`, for tests.
    #[must_use]
    pub fn below(root: &Path) -> Paths {
        Paths {
            data: root.join("data"),
            config: root.join("config"),
            cache: root.join("cache"),
            runtime: root.join("run"),
            units: root.join("units"),
            store: None,
        }
    }

    /// The same with the store elsewhere (`[store] path` of config.toml).
    #[must_use]
    pub fn with_store(mut self, store: Option<PathBuf>) -> Paths {
        self.store = store;
        self
    }

    /// `$XDG_DATA_HOME/steading`.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The image store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.store.clone().unwrap_or_else(|| self.data.join("store"))
    }

    /// All services, a directory each.
    #[must_use]
    pub fn services(&self) -> PathBuf {
        self.data.join("services")
    }

    /// One service.
    #[must_use]
    pub fn service(&self, name: &ServiceName) -> ServiceDir {
        ServiceDir(self.services().join(name.as_str()))
    }

    /// `config.toml`.
    #[must_use]
    pub fn settings_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// The user's own recipes.
    #[must_use]
    pub fn user_catalog(&self) -> PathBuf {
        self.config.join("catalog")
    }

    /// Where our units lie: `$XDG_DATA_HOME/systemd/user`, the user manager's directory for units of installed software
    /// (systemd.unit(5)). Not `$XDG_CONFIG_HOME/systemd/user`: that is the user's own, for drop-ins and for the link that
    /// `systemctl --user mask` makes, which fails where the unit itself is in the way (measured with systemd 252 and 257).
    #[must_use]
    pub fn units(&self) -> &Path {
        &self.units
    }

    /// `$XDG_CONFIG_HOME/systemd/user`, where systemd puts the links of enabled units.
    #[must_use]
    pub fn user_config_units(&self) -> PathBuf {
        self.config.with_file_name("systemd").join("user")
    }

    /// Run-time files (`$XDG_RUNTIME_DIR/steading`).
    #[must_use]
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// Where the yard's server listens for supervisors.
    #[must_use]
    pub fn yard_socket(&self) -> PathBuf {
        self.runtime.join("yard.sock")
    }

    /// Mount point of the yard's file system inside its namespace U0. Outside it is an empty directory.
    #[must_use]
    pub fn yard_mount(&self) -> PathBuf {
        self.runtime.join("yard")
    }

    /// Partial and finished downloads that no image refers to yet.
    #[must_use]
    pub fn downloads(&self) -> PathBuf {
        self.cache.join("blobs")
    }
}

/// The directory of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceDir(PathBuf);

impl ServiceDir {
    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// All generations.
    #[must_use]
    pub fn generations(&self) -> PathBuf {
        self.0.join("generations")
    }

    /// Generation `number`: `plan.toml`, `config.json` (OCI runtime spec) and copies of its units.
    #[must_use]
    pub fn generation(&self, number: u32) -> PathBuf {
        self.generations().join(number.to_string())
    }

    /// Symbolic link to the generation in force (`generations/N`).
    #[must_use]
    pub fn current(&self) -> PathBuf {
        self.0.join("current")
    }

    /// `plan.toml` of the generation in force.
    #[must_use]
    pub fn plan(&self) -> PathBuf {
        self.current().join("plan.toml")
    }

    /// `config.json` (OCI runtime spec) of the generation in force.
    #[must_use]
    pub fn runtime_spec(&self) -> PathBuf {
        self.current().join("config.json")
    }

    /// The compiled system call policy of the generation in force; made from [`Self::runtime_spec`].
    #[must_use]
    pub fn policy(&self) -> PathBuf {
        self.current().join("seccomp.bpf")
    }

    /// The directory of a volume without a host directory of its own.
    #[must_use]
    pub fn volume(&self, name: &str) -> PathBuf {
        self.0.join("data").join(name)
    }

    /// Upper directory of the root file system's overlay.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.0.join("upper/diff")
    }

    /// Work directory of the overlay, on the same file system as [`Self::upper`].
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.0.join("upper/work")
    }

    /// Directory of the secrets, 0700, a 0600 file each.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.0.join("secrets")
    }
}
