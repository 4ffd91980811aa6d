//! LoRA against PEFT and against slopes of the loss; adapter folders in and out, and bad ones.
//!
//! The golden files come from `scripts/make_model_goldens.py` (double precision).

#![expect(clippy::unwrap_used, reason = "a golden file that cannot be read fails the test")]

mod goldens;

use bstar_core::{Fault, FaultClass, RngKey};
use bstar_model::lora::folder::{base_of, is_adapter};
use bstar_model::lora::merge::merge_folders;
use bstar_model::lora::{Adapter, LoraSettings, LoraTarget};
use bstar_model::optimizer::AdamW;
use bstar_model::trainer::Trainer;
use bstar_model::weights::Weights;
use goldens::{FAMILIES, Golden};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

fn adapter(golden: &Golden, family: &str) -> Adapter {
    Adapter::load(&Golden::folder(family).join("adapter"), &golden.weights.config).unwrap()
}

fn trainer(golden: &Golden, adapter: Adapter) -> Trainer {
    let optimizer = AdamW::new(golden.settings, adapter.factors().len());
    Trainer::with_adapter(Arc::new(golden.weights.clone()), adapter, optimizer)
}

#[test]
fn the_loss_curve_is_that_of_peft() {
    for family in FAMILIES {
        let golden = Golden::read(family);
        let batch: Vec<_> = golden.examples.iter().collect();
        let mut trainer = trainer(&golden, adapter(&golden, family));
        assert_eq!(golden.lora_losses.len(), 50);
        for (step, &expected) in golden.lora_losses.iter().enumerate() {
            let loss = trainer.step(&batch, golden.learning_rate).unwrap().loss;
            let difference = (loss - expected).abs();
            assert!(difference < 1e-3, "{family}, step {step}: {loss} is not {expected}");
        }
        let learned = golden.lora_losses[0] - golden.lora_losses[49];
        assert!(learned > 0.1, "{family} learned nothing, so nothing was compared");
    }
}

#[test]
fn gradients_are_slopes_of_the_loss() {
    const STEP: f32 = 1.0 / 128.0;
    for family in FAMILIES {
        let golden = Golden::read(family);
        let batch: Vec<_> = golden.examples.iter().collect();
        let start = adapter(&golden, family);
        let gradient = trainer(&golden, start.clone()).gradient(&batch).unwrap().1;
        assert_eq!(gradient.len(), start.factors().len());
        for index in (0..gradient.len()).step_by(gradient.len() / 40) {
            let loss = |by: f32| {
                let mut moved = start.clone();
                moved.factors_mut()[index] += by;
                trainer(&golden, moved).gradient(&batch).unwrap().0.loss
            };
            let slope = (loss(STEP) - loss(-STEP)) / f64::from(2.0 * STEP);
            let found = f64::from(gradient[index]);
            assert!(
                (found - slope).abs() < 2e-3 * (1.0 + slope.abs()),
                "{family}, {index}: gradient {found}, slope {slope}"
            );
        }
    }
}

#[test]
fn the_bits_of_training_do_not_depend_on_the_number_of_threads() {
    let golden = Golden::read("qwen3");
    let batch: Vec<_> = golden.examples.iter().collect();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut trainer = trainer(&golden, adapter(&golden, "qwen3"));
            for _ in 0..3 {
                trainer.step(&batch, 1e-2).unwrap();
            }
            let adapter = trainer.adapter().unwrap().clone();
            (adapter, trainer.finish())
        })
    };
    assert!(run(1) == run(2) && run(1) == run(5));
}

#[test]
fn training_leaves_the_base_and_all_other_tensors_alone() {
    let golden = Golden::read("mistral");
    let batch: Vec<_> = golden.examples.iter().collect();
    let mut trainer = trainer(&golden, adapter(&golden, "mistral"));
    trainer.step(&batch, 1e-2).unwrap();
    let merged = trainer.adapter().unwrap().merged(&golden.weights);
    let parameters = Weights::from_flat(&golden.weights.config, trainer.parameters());
    assert_eq!(parameters, merged);
    for (name, tensor) in merged.tensors() {
        let adapted = ["q_proj.weight", "v_proj.weight"].iter().any(|end| name.ends_with(end));
        assert_eq!(tensor.data != golden.weights.get(name), adapted, "{name}");
    }
}

#[test]
fn a_saved_adapter_loads_the_same() {
    for (family, rslora) in [("llama2", false), ("qwen2", true)] {
        let golden = Golden::read(family);
        let targets = vec![LoraTarget::KProj, LoraTarget::UpProj];
        let settings = LoraSettings { rank: 4, alpha: 10.5, targets, rslora };
        let adapter = Adapter::fresh(&golden.weights.config, settings, RngKey::from_seed(4));
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("adapter");
        adapter.save(&folder, Golden::folder(family).to_str().unwrap()).unwrap();
        assert!(is_adapter(&folder) && !is_adapter(&Golden::folder(family)));
        assert_eq!(Adapter::load(&folder, &golden.weights.config).unwrap(), adapter);
        assert_eq!(base_of(&folder).unwrap(), Golden::folder(family));
    }
}

#[test]
fn a_saved_config_has_the_keys_of_peft() {
    let golden = Golden::read("qwen2");
    let dir = tempfile::tempdir().unwrap();
    adapter(&golden, "qwen2").save(dir.path(), "base").unwrap();
    let read = |dir: &Path| -> Value {
        serde_json::from_slice(&fs::read(dir.join("adapter_config.json")).unwrap()).unwrap()
    };
    let (ours, theirs) = (read(dir.path()), read(&Golden::folder("qwen2").join("adapter")));
    for (key, value) in ours.as_object().unwrap() {
        let expected = &theirs[key];
        match key.as_str() {
            "base_model_name_or_path" => assert_eq!(value, "base"),
            "lora_alpha" => assert_eq!(value.as_f64(), expected.as_f64()),
            "target_modules" => {
                let mut names: Vec<_> = value.as_array().unwrap().clone();
                names.sort_by_key(ToString::to_string);
                assert_eq!(&Value::Array(names), expected);
            }
            _ => assert_eq!(value, expected, "{key}"),
        }
    }
}

/// A copy of an adapter with a changed config.
fn changed(family: &str, change: &Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let from = Golden::folder(family).join("adapter").join(name);
        fs::copy(from, dir.path().join(name)).unwrap();
    }
    let path = dir.path().join("adapter_config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (key, value) in change.as_object().unwrap() {
        config[key] = value.clone();
    }
    fs::write(path, config.to_string()).unwrap();
    dir
}

#[test]
fn adapters_that_do_not_fit_are_refused_by_name() {
    let golden = Golden::read("llama2");
    for (change, words) in [
        (json!({"r": 0}), "`r` = 0"),
        (json!({"r": 3}), "lora_A.weight"),
        (json!({"r": 1_u64 << 60}), "`r` = 1152921504606846976"),
        (json!({"r": "2"}), "`r` = \"2\""),
        (json!({"lora_alpha": null}), "`lora_alpha` = null"),
        (json!({"use_rslora": 1}), "`use_rslora` = 1"),
        (json!({"use_dora": true}), "`use_dora` = true"),
        (json!({"bias": "all"}), "`bias` = \"all\""),
        (json!({"peft_type": "IA3"}), "`peft_type` = \"IA3\""),
        (json!({"rank_pattern": {"q_proj": 4}}), "`rank_pattern`"),
        (json!({"modules_to_save": ["lm_head"]}), "`modules_to_save`"),
        (json!({"layers_to_transform": [0]}), "`layers_to_transform`"),
        (json!({"target_modules": ".*proj"}), "`target_modules`"),
        (json!({"target_modules": []}), "`target_modules`"),
        (json!({"target_modules": ["q_proj", "lm_head"]}), "`target_modules`"),
        (json!({"target_modules": ["q_proj"]}), "has no place"),
        (json!({"init_lora_weights": "pissa"}), "`init_lora_weights` = \"pissa\""),
        (json!({"init_lora_weights": "pissa_niter_16"}), "`init_lora_weights`"),
        (json!({"init_lora_weights": "OLoRA"}), "`init_lora_weights`"),
        (json!({"init_lora_weights": "corda"}), "`init_lora_weights`"),
        (json!({"init_lora_weights": "loftq"}), "`init_lora_weights`"),
        (json!({"init_lora_weights": "lora_ga"}), "`init_lora_weights`"),
        (json!({"init_lora_weights": 1}), "`init_lora_weights` = 1"),
        (json!({"kasa_config": {"beta": 1e-4}}), "`kasa_config`"),
        (json!({"monteclora_config": {"num_samples": 2}}), "`monteclora_config`"),
        (json!({"arrow_config": {"top_k": 3}}), "`arrow_config`"),
        (json!({"of_a_later_peft": true}), "`of_a_later_peft` = true"),
    ] {
        let dir = changed("llama2", &change);
        let error = Adapter::load(dir.path(), &golden.weights.config).unwrap_err();
        let fault = Fault::from(error);
        assert_eq!(fault.class, FaultClass::Data, "{change}");
        assert!(fault.message.contains(words), "{change}: {fault}");
        assert!(fault.hint.is_some(), "{change}");
    }
}

#[test]
fn what_leaves_the_base_as_it_is_may_be_set() {
    let golden = Golden::read("llama2");
    for change in [
        json!({"target_modules": "all-linear"}),
        json!({"init_lora_weights": false}),
        json!({"init_lora_weights": null}),
        json!({"init_lora_weights": "gaussian"}),
        json!({"init_lora_weights": "eva", "eva_config": {"rho": 2.0}}),
        json!({"init_lora_weights": "orthogonal"}),
        json!({"lora_dropout": 0.1, "runtime_config": {"ephemeral_gpu_offload": false}}),
    ] {
        let dir = changed("llama2", &change);
        let read = Adapter::load(dir.path(), &golden.weights.config);
        assert_eq!(read.unwrap(), adapter(&golden, "llama2"), "{change}");
    }
}

#[test]
fn damaged_and_foreign_adapters_are_refused() {
    let golden = Golden::read("llama2");
    let config = &golden.weights.config;
    let other = Golden::read("qwen3").weights.config;
    let fault = |dir: &Path, config| Fault::from(Adapter::load(dir, config).unwrap_err()).message;
    let whole = changed("llama2", &json!({}));
    assert!(fault(whole.path(), &other).contains("has shape"));
    let fewer = changed("mistral", &json!({"target_modules": ["q_proj", "k_proj", "v_proj"]}));
    assert!(fault(fewer.path(), config).contains("has shape"));
    let tensors = whole.path().join("adapter_model.safetensors");
    let bytes = fs::read(&tensors).unwrap();
    fs::write(&tensors, &bytes[..bytes.len() - 3]).unwrap();
    assert!(fault(whole.path(), config).contains("broken file"));
    fs::remove_file(&tensors).unwrap();
    assert!(fault(whole.path(), config).contains("no such file"));
    fs::write(whole.path().join("adapter_config.json"), "[1]").unwrap();
    assert!(fault(whole.path(), config).contains("not an object"));
    for (base, words) in [(json!("no/such"), "\"no/such\""), (json!(null), "= null")] {
        let dir = changed("llama2", &json!({"base_model_name_or_path": base}));
        let message = Fault::from(base_of(dir.path()).unwrap_err()).message;
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn factors_that_are_not_finite_are_never_saved() {
    let golden = Golden::read("llama2");
    let mut adapter = adapter(&golden, "llama2");
    adapter.factors_mut()[5] = f32::NAN;
    let dir = tempfile::tempdir().unwrap();
    let error = adapter.save(&dir.path().join("new"), "base").unwrap_err();
    assert_eq!(Fault::from(error).class, FaultClass::Training);
    assert!(!dir.path().join("new").exists());
}

#[test]
fn a_merged_folder_is_the_adapted_model() {
    for family in FAMILIES {
        let golden = Golden::read(family);
        let (base, dir) = (Golden::folder(family), tempfile::tempdir().unwrap());
        merge_folders(&base, &base.join("adapter"), &dir.path().join("merged")).unwrap();
        let merged = Weights::load(&dir.path().join("merged")).unwrap();
        let batch: Vec<_> = golden.examples.iter().collect();
        let optimizer = AdamW::new(golden.settings, merged.config.parameter_count());
        let mut trainer = Trainer::new(&merged.config, merged.to_flat(), optimizer);
        let (loss, expected) = (trainer.gradient(&batch).unwrap().0.loss, golden.lora_losses[0]);
        assert!((loss - expected).abs() < 1e-4, "{family}: {loss} is not {expected}");
    }
    let base = Golden::folder("llama2");
    let out = tempfile::tempdir().unwrap();
    let fault = merge_folders(&base, &base, &out.path().join("merged")).unwrap_err();
    assert!(fault.message.ends_with("holds no adapter"), "{fault}");
    assert!(!out.path().join("merged").exists());
}
