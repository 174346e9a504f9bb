//! Bounds on what is read from files, as flags of every command and as the `reading` member of the proxy's
//! configuration file.

use eastwall_policy::source::Bounds;
use serde::Deserialize;

/// Apart from what a command itself is about. (A heading of the whole group would go on to what stands behind it.)
const HEADING: &str = "Bounds on files";

// What is left out keeps its default.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ReadingSettings {
    /// Bytes of one file of policies, objects or workloads [default: 33554432]
    #[arg(long, help_heading = HEADING, value_name = "BYTES")]
    max_file_bytes: Option<usize>,
    /// Bytes of all these files together [default: 268435456]
    #[arg(long, help_heading = HEADING, value_name = "BYTES")]
    max_total_bytes: Option<usize>,
    /// Documents of one file [default: 200000]
    #[arg(long, help_heading = HEADING, value_name = "NUMBER")]
    max_documents: Option<usize>,
    /// Values of one file: texts, numbers, lists and mappings [default: 6000000]
    #[arg(long, help_heading = HEADING, value_name = "NUMBER")]
    max_values: Option<usize>,
    /// Nesting of lists and mappings, at most 256 [default: 64]
    #[arg(long, help_heading = HEADING, value_name = "NUMBER", value_parser = depth)]
    #[serde(deserialize_with = "depth_of_file", default)]
    max_depth: Option<usize>,
    /// Values that anchors keep and aliases repeat, in one document [default: 10000]
    #[arg(long, help_heading = HEADING, value_name = "NUMBER")]
    max_aliased_values: Option<usize>,
    /// Nesting of folders [default: 32]
    #[arg(long, help_heading = HEADING, value_name = "NUMBER")]
    max_folder_depth: Option<usize>,
}

impl ReadingSettings {
    /// Writes what is set over bounds.
    pub(crate) fn over(&self, bounds: Bounds) -> Bounds {
        Bounds {
            file_bytes: self.max_file_bytes.unwrap_or(bounds.file_bytes),
            total_bytes: self.max_total_bytes.unwrap_or(bounds.total_bytes),
            documents: self.max_documents.unwrap_or(bounds.documents),
            values: self.max_values.unwrap_or(bounds.values),
            depth: self.max_depth.unwrap_or(bounds.depth),
            aliased_nodes: self.max_aliased_values.unwrap_or(bounds.aliased_nodes),
            folder_depth: self.max_folder_depth.unwrap_or(bounds.folder_depth),
        }
    }

    /// The bounds of a command.
    pub(crate) fn bounds(&self) -> Bounds {
        self.over(Bounds::default())
    }
}

/// Trees are walked by recursion: deeper ones could exhaust a thread's stack.
const DEEPEST: usize = 256;

fn depth(written: &str) -> Result<usize, String> {
    let number: usize = written.parse().map_err(|error| format!("{error}"))?;
    if number <= DEEPEST { Ok(number) } else { Err(format!("at most {DEEPEST}")) }
}

fn depth_of_file<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    match Option::<usize>::deserialize(deserializer)? {
        Some(number) if number > DEEPEST => Err(serde::de::Error::custom(format!("maxDepth is at most {DEEPEST}"))),
        number => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};
    use eastwall_policy::source::Bounds;

    use super::ReadingSettings;

    fn flags(line: &str) -> Result<Bounds, clap::Error> {
        let command = ReadingSettings::augment_args(clap::Command::new("x"));
        let matches = command.try_get_matches_from(std::iter::once("x").chain(line.split_whitespace()))?;
        Ok(ReadingSettings::from_arg_matches(&matches)?.bounds())
    }

    #[test]
    fn each_bound_has_its_flag_and_the_help_tells_the_default() {
        let bounds = flags(
            "--max-file-bytes 1 --max-total-bytes 2 --max-documents 3 --max-values 4 --max-depth 5 \
             --max-aliased-values 6 --max-folder-depth 7",
        );
        let expected = Bounds {
            file_bytes: 1,
            total_bytes: 2,
            documents: 3,
            values: 4,
            depth: 5,
            aliased_nodes: 6,
            folder_depth: 7,
        };
        assert_eq!(bounds.unwrap(), expected);
        assert_eq!(flags("").unwrap(), Bounds::default());
        assert!(flags("--max-depth 257").is_err());
        let help = ReadingSettings::augment_args(clap::Command::new("x")).render_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let Bounds { file_bytes, total_bytes, documents, values, depth, aliased_nodes, folder_depth } =
            Bounds::default();
        for default in [file_bytes, total_bytes, documents, values, depth, aliased_nodes, folder_depth] {
            assert!(help.contains(&format!("[default: {default}]")), "{default}: {help}");
        }
    }
}
