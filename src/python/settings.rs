//! Settings between Python and the registry: what a constructor gives, and what environment and files give it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use secrecy::{ExposeSecret, SecretString};

use super::failure::Failure;
use crate::config::{Kind, Resolved, SETTINGS, Setting, Sources, Value, WrapperConfiguration};
use crate::error::ErrorCode;

/// The configuration that these settings make, whose types the Python class has checked. There is one for each of the
/// registry, under its name; None leaves the default.
pub(super) fn configuration(settings: &Bound<'_, PyDict>) -> PyResult<WrapperConfiguration> {
    let mut configuration = WrapperConfiguration::new("", "");
    for setting in SETTINGS {
        let missing = || PyTypeError::new_err(format!("the constructor does not give {}", setting.name));
        let given = settings.get_item(setting.name)?.ok_or_else(missing)?;
        if !given.is_none() {
            let value = from_python(setting.kind(), &given)?;
            let put = setting.put(&mut configuration, value);
            put.map_err(|error| PyValueError::new_err(error.to_string()))?;
        }
    }
    if settings.len() != SETTINGS.len() {
        return Err(PyTypeError::new_err("the constructor gives a setting that is not in the registry"));
    }
    Ok(configuration)
}

/// The configuration that these settings make, some of those of the registry under their names.
pub(super) fn given(settings: &Bound<'_, PyDict>) -> PyResult<WrapperConfiguration> {
    let mut configuration = WrapperConfiguration::new("", "");
    for (setting, value) in some(settings)? {
        let put = setting.put(&mut configuration, value);
        put.map_err(|error| PyValueError::new_err(error.to_string()))?;
    }
    Ok(configuration)
}

/// Some settings of the registry, by name; None leaves one as it is.
pub(super) fn some(given: &Bound<'_, PyDict>) -> PyResult<Vec<(&'static Setting, Value)>> {
    let py = given.py();
    let mut some = Vec::new();
    for (name, value) in given {
        let name: String = name.extract()?;
        let unknown = || PyTypeError::new_err(format!("there is no setting {name}"));
        let setting = crate::config::setting(&name).ok_or_else(unknown)?;
        if value.is_none() {
            continue;
        }
        let wrong = |error: PyErr| {
            let text = format!("{name}: {}", error.value(py));
            Failure::new(ErrorCode::ArgumentType, text).raise(py)
        };
        let value = from_python(setting.kind(), &value).map_err(wrong)?;
        let value = match &value {
            // Only here a choice says what is allowed.
            Value::Choice(text) => setting.parse(text).map_err(|error| Failure::of(&error).raise(py))?,
            _ => value,
        };
        some.push((setting, value));
    }
    Ok(some)
}

fn from_python(kind: Kind, given: &Bound<'_, PyAny>) -> PyResult<Value> {
    let seconds = |given: &Bound<'_, PyAny>| {
        let seconds = given.extract()?;
        Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(error.to_string()))
    };
    Ok(match kind {
        Kind::Text => Value::Text(given.extract()?),
        Kind::Secret => Value::Secret(SecretString::from(given.extract::<String>()?)),
        Kind::Path => Value::Path(given.extract()?),
        Kind::Bytes | Kind::BytesOrNone | Kind::Count(_) => Value::Number(given.extract()?),
        Kind::Millis => Value::Duration(Duration::from_millis(given.extract()?)),
        Kind::Seconds | Kind::SecondsOrNone => Value::Duration(seconds(given)?),
        Kind::Flag => Value::Flag(given.extract()?),
        Kind::Choice => Value::Choice(given.extract()?),
    })
}

/// The value as the argument of a constructor.
fn into_python(kind: Kind, value: Value, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    match value {
        Value::Text(text) | Value::Choice(text) => text.into_bound_py_any(py),
        Value::Secret(secret) => secret.expose_secret().into_bound_py_any(py),
        // Not as a `pathlib.Path`: the constructor makes text of it at once.
        Value::Path(path) => path.into_os_string().into_bound_py_any(py),
        Value::Number(number) => number.into_bound_py_any(py),
        Value::Duration(time) if kind == Kind::Millis => time.as_millis().into_bound_py_any(py),
        Value::Duration(time) => time.as_secs_f64().into_bound_py_any(py),
        Value::Flag(flag) => flag.into_bound_py_any(py),
        Value::None => Ok(py.None().into_bound(py)),
    }
}

/// The arguments that an environment and a file give to a constructor which is given `arguments` already, and for each
/// where it was set.
#[pyfunction]
pub(super) fn resolve_settings(
    py: Python<'_>,
    environment: HashMap<OsString, OsString>,
    file: Option<PathBuf>,
    arguments: Vec<String>,
) -> PyResult<(Bound<'_, PyDict>, Bound<'_, PyDict>)> {
    let resolved = py.detach(|| {
        let mut sources = Sources::new().environment(environment)?;
        if let Some(path) = &file {
            sources = sources.file(path)?;
        }
        arguments.iter().fold(sources, |sources, name| sources.given_elsewhere(name)).resolve()
    });
    let (settings, origins) = (PyDict::new(py), PyDict::new(py));
    for Resolved { setting, value, origin } in resolved.map_err(|error| Failure::of(&error).raise(py))? {
        settings.set_item(setting.name, into_python(setting.kind(), value, py)?)?;
        origins.set_item(setting.name, origin.to_string())?;
    }
    Ok((settings, origins))
}

/// The registry, for tests: of each setting its name, kind, default, choices and variables.
#[pyfunction]
pub(super) fn registry(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let described = SETTINGS.iter().map(|setting: &Setting| {
        let default = setting.default().map(|value| into_python(setting.kind(), value, py)).transpose()?;
        let entry = PyDict::new(py);
        entry.set_item("name", setting.name)?;
        entry.set_item("kind", format!("{:?}", setting.kind()))?;
        entry.set_item("default", default)?;
        entry.set_item("choices", setting.choices())?;
        entry.set_item("variables", setting.variables().collect::<Vec<_>>())?;
        Ok(entry)
    });
    PyList::new(py, described.collect::<PyResult<Vec<_>>>()?)
}
