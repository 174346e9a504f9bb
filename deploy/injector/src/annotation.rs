//! What a pod may decide about its own sidecar.

use serde_json::{Map, Value};

use crate::field::Fields;
use crate::path::FieldPath;
use crate::refusal::{Reason, Refusal};
use crate::settings::{LEVEL, LEVELS, Log, QUANTITY, Resources, Settings, is_image, is_quantity};

/// The platform's settings with the pod's own over them.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub(crate) image: String,
    pub(crate) resources: Resources,
    pub(crate) log: Log,
}

impl Chosen {
    /// Of a pod's metadata.
    pub(crate) fn of(metadata: Option<Fields<'_>>, settings: &Settings) -> Result<Self, Refusal> {
        let Settings { image, resources, log, .. } = settings.clone();
        let mut chosen = Self { image, resources, log };
        let Some(metadata) = metadata else { return Ok(chosen) };
        let Some(map) = metadata.mapping("annotations")? else { return Ok(chosen) };
        let said = Annotations { map, path: metadata.at("annotations") };
        let resources = &mut chosen.resources;
        said.set(CPU, QUANTITY, is_quantity, |text| resources.cpu = text)?;
        said.set(MEMORY, QUANTITY, is_quantity, |text| resources.memory = text)?;
        said.set(CPU_LIMIT, QUANTITY, is_quantity, |text| resources.cpu_limit = Some(text))?;
        said.set(MEMORY_LIMIT, QUANTITY, is_quantity, |text| resources.memory_limit = Some(text))?;
        said.set(LOG_LEVEL, LEVEL, |text| LEVELS.contains(&text), |text| chosen.log.level = text)?;
        let is_bool = |text: &str| matches!(text, "true" | "false");
        said.set(LOG_ALLOWED, "`true` or `false`", is_bool, |text| chosen.log.allowed = text == "true")?;
        if map.contains_key(IMAGE) && !settings.allow_image_annotation {
            return Err(Refusal { path: said.path.key(IMAGE), reason: Reason::ForbiddenAnnotation });
        }
        said.set(IMAGE, "an image with a version", is_image, |text| chosen.image = text)?;
        Ok(chosen)
    }
}

struct Annotations<'a> {
    map: &'a Map<String, Value>,
    path: FieldPath,
}

impl Annotations<'_> {
    fn set(
        &self,
        name: &str,
        expected: &'static str,
        accepts: impl Fn(&str) -> bool,
        mut set: impl FnMut(String),
    ) -> Result<(), Refusal> {
        match self.map.get(name) {
            None => Ok(()),
            Some(Value::String(text)) if accepts(text) => {
                set(text.clone());
                Ok(())
            }
            Some(other) => {
                let found = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
                Err(Refusal { path: self.path.key(name), reason: Reason::UnknownWord { expected, found } })
            }
        }
    }
}

const CPU: &str = "eastwall.dev/proxy-cpu";
const MEMORY: &str = "eastwall.dev/proxy-memory";
const CPU_LIMIT: &str = "eastwall.dev/proxy-cpu-limit";
const MEMORY_LIMIT: &str = "eastwall.dev/proxy-memory-limit";
const LOG_LEVEL: &str = "eastwall.dev/log-level";
const LOG_ALLOWED: &str = "eastwall.dev/log-allowed";
const IMAGE: &str = "eastwall.dev/proxy-image";
