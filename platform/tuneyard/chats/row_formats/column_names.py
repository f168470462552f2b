"""Columns and fields of rows by what they mean: harmless metadata, and those that look like a part of the chat."""

from __future__ import annotations

HARMLESS_COLUMNS = frozenset(
    {
        "annotator", "answer_start", "author", "categories", "category", "chosen_model", "chosen_rating",
        "chosen_score", "conversation_hash", "conversation_id", "correct_answers", "correctness", "country",
        "create_time", "created", "created_at", "created_date", "dataset", "dataset_id", "dataset_name",
        "date", "deleted", "detoxify", "detoxify_moderation", "difficulty", "domain", "emojis", "engine",
        "example_id", "expected_answer", "extra_info", "field", "final_answer", "generator", "ground_truth",
        "ground_truth_answer", "ground_truth_solution", "guid", "hash", "hashed_ip", "header", "id", "idx",
        "incorrect_answers", "index", "is_correct", "is_impossible", "key", "keywords", "kind", "labels",
        "lang", "language", "languages", "length", "level", "license", "link", "locale", "margin", "md5",
        "message_id", "message_tree_id", "meta", "metadata", "model", "model_id", "model_name", "models",
        "moderation", "must_contain", "n_turns", "num_samples", "num_tokens", "num_turns",
        "openai_moderation", "origin", "page", "parallel_tool_calls", "parent_id", "persona",
        "plausible_answers", "prompt_id", "provider", "quality", "quality_score", "question_id", "rank",
        "rating", "ratings", "redacted", "rejected_model", "rejected_rating", "rejected_score",
        "review_count", "review_result", "revision", "reward", "row_id", "sample_id", "score", "score_chosen",
        "score_rejected", "scores", "sha256", "source", "source_dataset", "source_id", "sources",
        "starter_code", "state", "style", "sub_category", "subcategory", "subdomain", "subject", "subset",
        "subtopic", "synthetic", "tag", "tags", "task", "task_category", "task_name", "task_type", "teacher",
        "test_cases", "text_length", "time", "timestamp", "title", "token_count", "tokens", "topic", "topics",
        "toxic", "toxicity", "tree_state", "turn", "turn_identifier", "turns", "type", "uid", "updated_at",
        "url", "urls", "used_in_training", "user", "user_id", "uuid", "verified", "version", "word_count",
        "worker_id",
    }
)  # fmt: skip
"""Columns that are never rendered, in the row or in its objects."""

HARMLESS_MESSAGE_FIELDS = HARMLESS_COLUMNS | {
    "name", "annotations", "audio_id", "stop_reason", "finish_reason", "usage", "openai_id", "temperature", "top_p",
    "token_counter",
}  # fmt: skip
"""Fields of a message that are labels: OpenAI's `name` and `annotations`, and those of HARMLESS_COLUMNS."""

REASONING_COLUMNS = ("reasoning_content", "reasoning", "thinking", "thoughts", "chain_of_thought", "cot")
"""Columns and fields of a message that hold the reasoning."""

SYSTEM_COLUMNS = ("system", "system_prompt", "system_message")
WEIGHT_COLUMNS = ("weight", "train", "loss", "trainable")
"""Fields of a message that say whether it is trained."""
ROW_WEIGHT_COLUMNS = ("weight", "train")
TOOL_COLUMNS = ("tools", "functions")

MEANINGFUL_COLUMNS = frozenset(
    {
        "answer", "answers", "attachments", "audio", "audios", "background", "chat", "chosen", "completion",
        "completions", "content", "context", "contexts", "conversation", "conversations", "critique", "data",
        "dialog", "dialogue", "document", "documents", "feedback", "file", "files", "function_call",
        "function_calls", "history", "ideal", "image", "images", "input", "inputs", "instruction",
        "instructions", "label", "loss_mask", "mask", "messages", "observation", "observations", "output",
        "outputs", "passage", "preference", "problem", "prompt", "prompt_text", "prompts", "query",
        "question", "questions", "rejected", "response", "responses", "solution", "target", "targets", "text",
        "tool_call", "tool_calls", "tool_choice", "video", "videos", "weights",
    }
).union(REASONING_COLUMNS, SYSTEM_COLUMNS, ROW_WEIGHT_COLUMNS, TOOL_COLUMNS)  # fmt: skip
"""Columns that look like a part of the chat."""
