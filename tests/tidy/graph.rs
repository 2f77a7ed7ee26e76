//! Which module names which, read from the sources.
//!
//! Only production code counts: what stands under `cfg(test)`, comments and texts do not. A name
//! that a module passes on with `use` counts as the module that it comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The names of a path, from the root of the crate.
type Names = Vec<String>;

/// Which modules name which, and where.
type Edges = BTreeMap<String, BTreeMap<String, String>>;

/// All modules of a crate, by their paths; the root has the empty one.
pub(crate) struct Crate {
    modules: BTreeMap<Names, Module>,
}

/// What one module says.
#[derive(Default)]
struct Module {
    /// Where it is written.
    file: PathBuf,
    children: Vec<Child>,
    /// The paths it names, as they are written.
    named: Vec<Names>,
    /// The names it takes in or passes on with `use`, and the paths these stand for.
    uses: BTreeMap<String, Names>,
}

/// A module in another.
#[derive(Clone)]
struct Child {
    name: String,
    place: Place,
}

/// Where the text of a module is.
#[derive(Clone)]
enum Place {
    /// In these braces.
    Here(TokenStream),
    /// In the file that its name says.
    File,
    /// In the file that an attribute says.
    Named(String),
}

impl Crate {
    /// Reads the crate whose root is this file.
    pub(crate) fn read(root: &Path) -> Self {
        let mut modules = BTreeMap::new();
        read_file(&mut modules, Vec::new(), root, true);
        Self { modules }
    }

    /// The modules with a child whose file is named by an attribute.
    pub(crate) fn placed_by_attribute(&self) -> Vec<String> {
        let is_placed = |child: &Child| matches!(child.place, Place::Named(_));
        let placing = |module: &Module| module.children.iter().any(is_placed);
        let placed = self.modules.iter().filter(|(_, module)| placing(module));
        placed.map(|(path, _)| path.join("::")).collect()
    }

    /// The steps of the circles among the children of `parent`, each with a file that takes it.
    pub(crate) fn circles(&self, parent: &str) -> Vec<String> {
        let parent = names(parent);
        let edges = self.edges(&parent);
        let reached: BTreeMap<_, _> = edges
            .keys()
            .map(|from| (from, reach(&edges, from)))
            .collect();
        let step = |from: &String, to: &String| reached[to].contains(from);
        let said = edges.iter().flat_map(|(from, targets)| {
            let closing = targets.iter().filter(move |(to, _)| step(from, to));
            closing.map(move |(to, why)| format!("{from} -> {to} ({why})"))
        });
        said.collect()
    }

    /// The modules that have children.
    pub(crate) fn parents(&self) -> BTreeSet<String> {
        let parents = self.modules.keys().filter(|path| !path.is_empty());
        parents
            .map(|path| path[..path.len() - 1].join("::"))
            .collect()
    }

    /// The files in which `part`, or what is below it, names `stranger`, or what is below that.
    pub(crate) fn naming(&self, part: &str, stranger: &str) -> BTreeSet<PathBuf> {
        let (part, stranger) = (names(part), names(stranger));
        assert!(self.modules.contains_key(&part), "{part:?}");
        assert!(self.modules.contains_key(&stranger), "{stranger:?}");
        let of_part = self
            .modules
            .iter()
            .filter(|(path, _)| path.starts_with(&part));
        let naming = of_part.filter(|(path, module)| {
            let mut targets = module
                .named
                .iter()
                .filter_map(|named| self.resolve(path, named, 0));
            targets.any(|target| target.starts_with(&stranger))
        });
        naming.map(|(_, module)| module.file.clone()).collect()
    }

    /// Which child of `parent` names which other, and where it does so first.
    fn edges(&self, parent: &[String]) -> Edges {
        let mut edges = Edges::new();
        let child_of = |path: &[String]| {
            let is_below = path.len() > parent.len() && path.starts_with(parent);
            is_below.then(|| path[parent.len()].clone())
        };
        for (path, module) in &self.modules {
            let Some(from) = child_of(path) else { continue };
            let targets = edges.entry(from.clone()).or_default();
            for named in &module.named {
                let target = self.resolve(path, named, 0);
                if let Some(to) = target.and_then(|target| child_of(&target))
                    && to != from
                {
                    let why = || format!("{}: {}", module.file.display(), named.join("::"));
                    targets.entry(to).or_insert_with(why);
                }
            }
        }
        edges
    }

    /// The module that a path leads to, and nothing if that is none of this crate's.
    fn resolve(&self, at: &[String], named: &[String], depth: u8) -> Option<Names> {
        let mut here: Names = match named.first()?.as_str() {
            "crate" => Vec::new(),
            "self" => at.to_vec(),
            "super" => at[..at.len().checked_sub(1)?].to_vec(),
            first => {
                let child = [at, &[first.to_owned()]].concat();
                if self.modules.contains_key(&child) {
                    child
                } else {
                    let used = self.modules[at].uses.get(first)?;
                    if depth > 8 || used.first().is_some_and(|name| name == first) {
                        return None;
                    }
                    self.resolve(at, &[used, &named[1..]].concat(), depth + 1)?
                }
            }
        };
        if !matches!(named[0].as_str(), "crate" | "self" | "super") {
            return Some(here);
        }
        for (i, name) in named.iter().enumerate().skip(1) {
            if name == "super" {
                here.pop()?;
                continue;
            }
            let child = [&here[..], std::slice::from_ref(name)].concat();
            if self.modules.contains_key(&child) {
                here = child;
                continue;
            }
            if let Some(used) = self.modules[&here].uses.get(name)
                && depth < 8
                && let Some(to) = self.resolve(&here, &[used, &named[i + 1..]].concat(), depth + 1)
            {
                return Some(to);
            }
            break;
        }
        Some(here)
    }
}

/// The names of a path as it is written; none for the root.
fn names(path: &str) -> Names {
    let names = path.split("::").filter(|name| !name.is_empty());
    names.map(Into::into).collect()
}

/// What can be reached from here, in one step or more.
fn reach(edges: &Edges, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(at) = next.pop() {
        for to in edges[at].keys() {
            if reached.insert(to.clone()) {
                next.push(to);
            }
        }
    }
    reached
}

/// Reads a module that has a file of its own, and everything below it.
fn read_file(modules: &mut BTreeMap<Names, Module>, path: Names, file: &Path, is_root: bool) {
    let text = fs::read_to_string(file).unwrap();
    let tokens: TokenStream = text.parse().unwrap();
    let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
    let folder = file.parent().unwrap();
    let below = if is_root || stem == "mod" {
        folder.to_owned()
    } else {
        folder.join(stem)
    };
    read_module(modules, path, file, &below, tokens);
}

fn read_module(
    modules: &mut BTreeMap<Names, Module>,
    path: Names,
    file: &Path,
    below: &Path,
    tokens: TokenStream,
) {
    let mut module = Module {
        file: file.to_owned(),
        ..Module::default()
    };
    scan(&mut module, tokens);
    let children = module.children.clone();
    modules.insert(path.clone(), module);
    for Child { name, place } in children {
        let path = [&path[..], std::slice::from_ref(&name)].concat();
        let below = below.join(&name);
        match place {
            Place::Here(inside) => read_module(modules, path, file, &below, inside),
            Place::Named(place) => read_file(modules, path, &file.with_file_name(place), false),
            Place::File => {
                let flat = below.with_extension("rs");
                let nested = below.join("mod.rs");
                let file = if flat.exists() { flat } else { nested };
                read_file(modules, path, &file, false);
            }
        }
    }
}

/// Goes through the tokens of a module and notes what they name.
fn scan(module: &mut Module, tokens: TokenStream) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    let mut place = None;
    while let Some(token) = tokens.get(at) {
        at = match token {
            TokenTree::Punct(mark) if mark.as_char() == '#' => {
                let said = said_by_attribute(tokens.get(at + 1));
                if said.starts_with("cfg(test)") || said.starts_with("cfg(all(test") {
                    after_item(&tokens, at + 2)
                } else {
                    let file = said.strip_prefix("path=");
                    place = file.map(|file| file.trim_matches('"').to_owned()).or(place);
                    at + 1
                }
            }
            TokenTree::Ident(word) if word == "mod" => {
                let name = tokens[at + 1].to_string();
                let place = match (&tokens[at + 2], place.take()) {
                    (TokenTree::Group(inside), _) => Place::Here(inside.stream()),
                    (_, Some(file)) => Place::Named(file),
                    (_, None) => Place::File,
                };
                module.children.push(Child { name, place });
                at + 3
            }
            TokenTree::Ident(word) if word == "use" => {
                let end = after_item(&tokens, at);
                for (name, path) in used(&tokens[at + 1..end], &[]) {
                    module.named.push(path.clone());
                    module.uses.insert(name, path);
                }
                end
            }
            TokenTree::Ident(_) => {
                let (path, end) = path_at(&tokens, at);
                module.named.push(path);
                end
            }
            TokenTree::Group(group) => {
                scan(module, group.stream());
                at + 1
            }
            _ => at + 1,
        };
    }
}

/// What stands in the brackets of an attribute, without blanks.
fn said_by_attribute(brackets: Option<&TokenTree>) -> String {
    match brackets {
        Some(TokenTree::Group(group)) => group.stream().to_string().replace(' ', ""),
        _ => String::new(),
    }
}

/// Where what begins here ends: an item, a statement, a field.
fn after_item(tokens: &[TokenTree], from: usize) -> usize {
    let word = |at: usize| tokens.get(at).map(ToString::to_string).unwrap_or_default();
    let keywords = [
        "const", "enum", "fn", "impl", "mod", "struct", "trait", "type", "use",
    ];
    let mut at = from;
    while word(at) == "#" {
        at += 2;
    }
    if word(at) == "pub" {
        at += 1;
        if matches!(&tokens.get(at), Some(TokenTree::Group(g)) if g.delimiter() == Delimiter::Parenthesis)
        {
            at += 1;
        }
    }
    let first = word(at);
    let is_item = keywords.contains(&first.as_str());
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Punct(mark) if mark.as_char() == ';' => return at + 1,
            TokenTree::Punct(mark) if mark.as_char() == ',' && !is_item => return at + 1,
            TokenTree::Group(g) if g.delimiter() == Delimiter::Brace && first != "use" => {
                return at + 1;
            }
            _ => at += 1,
        }
    }
    at
}

/// The path that begins here, and where it ends.
fn path_at(tokens: &[TokenTree], from: usize) -> (Names, usize) {
    let mut path = Vec::new();
    let mut at = from;
    while let Some(TokenTree::Ident(name)) = tokens.get(at) {
        path.push(name.to_string());
        at += 1;
        if !is_colons(tokens, at) {
            break;
        }
        at += 2;
    }
    (path, at)
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    let is_colon =
        |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == ':');
    is_colon(at) && is_colon(at + 1)
}

/// What a `use` takes in: each name with its path.
fn used(tokens: &[TokenTree], prefix: &[String]) -> Vec<(String, Names)> {
    let mut found = Vec::new();
    for one in tokens.split(|token| matches!(token, TokenTree::Punct(p) if p.as_char() == ',')) {
        let start = one
            .iter()
            .position(|t| matches!(t, TokenTree::Ident(_) | TokenTree::Group(_)));
        let Some(start) = start else { continue };
        let (names, end) = path_at(one, start);
        let path = [prefix, &names].concat();
        match one.get(end) {
            Some(TokenTree::Group(group)) => {
                let inside: Vec<_> = group.stream().into_iter().collect();
                found.extend(used(&inside, &path));
            }
            Some(TokenTree::Ident(word)) if word == "as" => {
                found.push((one[end + 1].to_string(), path));
            }
            _ => {
                if names.last().is_some_and(|name| name == "self") {
                    let path = path[..path.len() - 1].to_vec();
                    found.extend(path.last().cloned().map(|name| (name, path)));
                } else {
                    found.extend(path.last().cloned().map(|name| (name, path)));
                }
            }
        }
    }
    found
}
