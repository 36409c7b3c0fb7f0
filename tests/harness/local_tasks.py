"""Tasks of our own for the harness: YAML files beside their documents, so that no hub is asked."""

import json

YAML = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: {kind}
{rest}
metadata:
  version: 1.0
"""
CHOICES = """doc_to_text: "{{context}}"
doc_to_choice: choices
doc_to_target: label
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true"""
ROLLING = """doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - metric: byte_perplexity"""
ANSWERS = """doc_to_text: "{{context}}"
doc_to_target: "{{answer}}"
generation_kwargs:
  until: ["."]
  max_gen_toks: 8
  do_sample: false
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true"""
KINDS = {"multiple_choice": CHOICES, "loglikelihood_rolling": ROLLING, "generate_until": ANSWERS}


def write_task(folder, name, kind, documents, more=""):
    """The YAML of a task, whose documents are dicts; returns its path."""
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in documents))
    path = folder / f"{name}.yaml"
    path.write_text(YAML.format(name=name, data=data, kind=kind, rest=KINDS[kind] + more))
    return path
