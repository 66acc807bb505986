//! Names -> recipes: the built-in catalog, the user's, search, nearest names, provenance. No network.
//!
//! A recipe of the user (`$XDG_CONFIG_HOME/steading/catalog/NAME.toml`) stands in for the built-in one of that name, and its
//! aliases come before those of built-in ones. A broken file of the user breaks only the name it has.

mod built_in;
mod search;

pub use built_in::BUILT_IN;

use crate::error::{Context, Error, Result};
use crate::recipe::{self, Recipe, Selected, did_you_mean};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Provenance of the recipes that this build carries.
pub const FROM_BUILD: &str = "built-in";
/// Provenance of the recipes in the user's directory.
pub const FROM_USER: &str = "user";

/// All recipes there are.
#[derive(Debug)]
pub struct Catalog {
    /// The user's first, then the built-in ones without those that the user replaced; each part sorted by name.
    entries: Vec<Entry>,
    broken: Vec<Broken>,
}

/// A recipe and where it was found.
#[derive(Debug)]
pub struct Entry {
    /// The recipe.
    pub recipe: Recipe,
    /// [`FROM_BUILD`] or [`FROM_USER`].
    pub source: &'static str,
}

/// A file of the user that is no recipe.
#[derive(Debug)]
pub struct Broken {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: Error,
}

impl Catalog {
    /// The recipes that this build carries.
    ///
    /// # Errors
    /// Never in a tested build: the tests parse every file.
    pub fn built_in() -> Result<Catalog> {
        let mut entries = Vec::with_capacity(BUILT_IN.len());
        for (name, text) in BUILT_IN {
            entries.push(Entry { recipe: recipe::parse(text, &format!("built-in {name}.toml"))?, source: FROM_BUILD });
        }
        Ok(Catalog { entries, broken: Vec::new() })
    }

    /// The same with the user's recipes in `directory`, which need not exist.
    ///
    /// # Errors
    /// When the directory exists and cannot be read. Broken files are kept for [`Self::find`] and [`Self::broken`].
    pub fn load(directory: &Path) -> Result<Catalog> {
        let mut catalog = Self::built_in()?;
        let mut own = Vec::new();
        for path in files(directory)? {
            match load_file(&path) {
                Ok(recipe) => own.push(Entry { recipe, source: FROM_USER }),
                Err(error) => catalog.broken.push(Broken { path, error }),
            }
        }
        catalog.entries.retain(|entry| own.iter().all(|other| other.recipe.name() != entry.recipe.name()));
        own.append(&mut catalog.entries);
        Ok(Catalog { entries: own, ..catalog })
    }

    /// Every recipe, the user's first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The user's files that are no recipes; worth a warning where recipes are listed.
    #[must_use]
    pub fn broken(&self) -> &[Broken] {
        &self.broken
    }

    /// The recipe and version of `NAME[@VERSION]`; aliases of both count.
    ///
    /// # Errors
    /// Not found, with the nearest names or the versions there are; what is wrong with a broken file of that name.
    pub fn find(&self, text: &str) -> Result<Selected<'_>> {
        let (name, version) = match text.split_once('@') {
            Some((_, "")) => {
                return Err(Error::usage(format!("`{}` names no version after the `@`", text.escape_debug()))
                    .hint("write RECIPE or RECIPE@VERSION, e.g. `postgres@14`"));
            }
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        let entry = self.entry(name)?;
        Ok(Selected { recipe: &entry.recipe, version: entry.recipe.version(version)?, source: entry.source })
    }

    /// The recipe of that name or alias.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn entry(&self, name: &str) -> Result<&Entry> {
        if let Some(broken) = self.broken.iter().find(|broken| broken.path.file_stem().is_some_and(|stem| stem == name)) {
            // The error cannot be cloned and stays the catalog's; its text, with the place in the file, is what matters.
            let told = Error::usage(broken.error.to_string());
            return Err(Error::usage(format!("your own recipe `{name}` cannot be used"))
                .because(told)
                .hint(format!("repair or remove {}", broken.path.display())));
        }
        let named = self.entries.iter().find(|entry| entry.recipe.name() == name);
        let aliased = || self.entries.iter().find(|entry| entry.recipe.head.aliases.iter().any(|alias| alias.as_str() == name));
        named.or_else(aliased).ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &str) -> Error {
        let error = Error::not_found(format!("no recipe `{}` in the catalog", name.escape_debug()));
        // `postgres:14` is how images are written.
        if let Some((recipe, version)) = name.split_once(':')
            && self.entry(recipe).is_ok()
        {
            return error.hint(format!("did you mean `{recipe}@{}`?", version.escape_debug()));
        }
        let names = self.entries.iter().map(|entry| entry.recipe.name());
        let aliases = self.entries.iter().flat_map(|entry| entry.recipe.head.aliases.iter().map(recipe::Name::as_str));
        error.hint(did_you_mean(name, names.chain(aliases)).unwrap_or_else(|| "`steading search WORD` finds recipes".to_owned()))
    }
}

/// The `*.toml` files of a directory, sorted; none when there is no such directory.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let what = || format!("cannot read your catalog {}", directory.display());
    let list = match std::fs::read_dir(directory) {
        Ok(list) => list,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(what),
    };
    let mut found = Vec::new();
    for entry in list {
        let path = entry.context(what)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn load_file(path: &Path) -> Result<Recipe> {
    let shown = path.display().to_string();
    let what = || format!("cannot read {shown}");
    // To open a FIFO named like a recipe would wait for ever.
    if !path.metadata().context(what)?.is_file() {
        return Err(Error::usage(format!("{shown} is not a file")));
    }
    let file = File::open(path).context(what)?;
    let mut bytes = Vec::new();
    let most = u64::try_from(recipe::LONGEST).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).context(what)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::usage(format!("{shown} is not UTF-8 text")))?;
    let recipe = recipe::parse(&text, &shown)?;
    if path.file_stem().is_none_or(|stem| stem != recipe.name()) {
        return Err(Error::usage(format!("{shown} has the recipe `{0}`, whose file is `{0}.toml`", recipe.name()))
            .hint(format!("the file of a recipe has its name: `{}.toml`", recipe.name())));
    }
    Ok(recipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::recipe::Date;
    use std::collections::BTreeSet;
    use std::fs;

    fn found(catalog: &Catalog, text: &str) -> String {
        let found = catalog.find(text).unwrap();
        format!("{}@{} {} {}", found.recipe.name(), found.version.name, found.reference().unwrap(), found.source)
    }

    #[test]
    fn every_file_of_the_catalog_is_built_in_under_its_name() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog");
        let on_disk: BTreeSet<String> =
            files(&directory).unwrap().iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        let listed: BTreeSet<String> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(on_disk, listed);
        let catalog = Catalog::built_in().unwrap();
        for ((name, _), entry) in BUILT_IN.iter().zip(&catalog.entries) {
            assert_eq!(entry.recipe.name(), *name);
        }
    }

    #[test]
    fn no_name_or_alias_of_the_built_in_catalog_is_taken_twice() {
        let catalog = Catalog::built_in().unwrap();
        let mut seen = BTreeSet::new();
        for entry in &catalog.entries {
            for name in std::iter::once(&entry.recipe.head.name).chain(&entry.recipe.head.aliases) {
                assert!(seen.insert(name), "{name}");
            }
        }
    }

    #[test]
    fn names_aliases_and_versions_lead_to_images() {
        let catalog = Catalog::built_in().unwrap();
        assert_eq!(found(&catalog, "postgres@14"), "postgres@14 docker.io/library/postgres:14 built-in");
        assert_eq!(found(&catalog, "pg@15"), "postgres@15 docker.io/library/postgres:15 built-in");
        assert_eq!(found(&catalog, "postgresql"), "postgres@18 docker.io/library/postgres:18 built-in");
        assert_eq!(found(&catalog, "nginx@stable"), "nginx@1.30 docker.io/library/nginx:1.30 built-in");
        assert_eq!(found(&catalog, "redis@7"), "redis@7 docker.io/library/redis:7 built-in");
    }

    #[test]
    fn what_is_not_there_is_answered_with_what_is_near() {
        let catalog = Catalog::built_in().unwrap();
        for (text, kind, what, hint) in [
            ("postgre", Kind::NotFound, "no recipe `postgre`", "did you mean `postgres`"),
            (
                "postgres@16.4",
                Kind::NotFound,
                "postgres has no version `16.4`",
                "did you mean `16`? versions of postgres: 18, 17, 16",
            ),
            ("postgres@13", Kind::NotFound, "postgres has no version `13`", "18, 17, 16, 15, 14"),
            ("postgres:14", Kind::NotFound, "no recipe `postgres:14`", "did you mean `postgres@14`?"),
            ("oracle", Kind::NotFound, "no recipe `oracle`", "steading search"),
            ("postgres@", Kind::Usage, "names no version", "postgres@14"),
            ("", Kind::NotFound, "no recipe ``", "steading search"),
            ("../x\u{1b}", Kind::NotFound, "no recipe `../x\\u{1b}`", "steading search"),
        ] {
            let error = catalog.find(text).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}");
            assert!(error.to_string().contains(what), "{error}");
            assert!(error.find_hint().unwrap().contains(hint), "{:?}", error.find_hint());
        }
    }

    #[test]
    fn an_ended_version_is_noticed_on_its_day() {
        let catalog = Catalog::built_in().unwrap();
        let notices = |text: &str, seconds: i64| catalog.find(text).unwrap().notices(Date::of_unix(seconds));
        let day = 1_794_441_600;
        assert_eq!(notices("postgres@14", day), ["PostgreSQL 14 has had no updates since 2026-11-12"]);
        assert!(notices("postgres@14", day - 1).is_empty());
        assert!(notices("postgres@15", day).is_empty());
    }

    #[test]
    fn the_users_recipe_comes_first_and_a_broken_one_breaks_only_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let redis = BUILT_IN.iter().find(|(name, _)| *name == "redis").unwrap().1;
        fs::write(dir.path().join("redis.toml"), redis.replace("docker.io/library/redis", "quay.io/own/redis")).unwrap();
        fs::write(dir.path().join("nginx.toml"), "[recipe]\nschema = 1\nnam = 2\n").unwrap();
        fs::write(dir.path().join("other.toml"), redis).unwrap();
        fs::write(dir.path().join("bytes.toml"), b"\xff").unwrap();
        fs::write(dir.path().join("README"), "not looked at").unwrap();
        fs::create_dir(dir.path().join("dir.toml")).unwrap();
        let catalog = Catalog::load(dir.path()).unwrap();
        assert_eq!(found(&catalog, "redis@7"), "redis@7 quay.io/own/redis:7 user");
        assert_eq!(found(&catalog, "postgres@14"), "postgres@14 docker.io/library/postgres:14 built-in");
        let error = catalog.find("nginx").unwrap_err();
        assert_eq!(error.to_string(), "your own recipe `nginx` cannot be used");
        assert!(error.causes()[0].contains("nginx.toml:3:1: unknown field `nam`"), "{:?}", error.causes());
        let broken: Vec<_> = catalog.broken().iter().map(|broken| broken.path.file_name().unwrap().to_owned()).collect();
        assert_eq!(broken, ["bytes.toml", "dir.toml", "nginx.toml", "other.toml"]);
        assert!(Catalog::load(&dir.path().join("absent")).unwrap().broken().is_empty());
    }
}
