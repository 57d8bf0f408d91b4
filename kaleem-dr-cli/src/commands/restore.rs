//! `restore`.

use kaleem_dr_core::{
    engine::repository::{Repository, select},
    ground::Exit,
    operate::job::{Restoring, plan_restore},
    recovery::{
        point::PointReader,
        points::open_point,
        restore::{RestoreOptions, restore_files},
        source::{Existing, Extras, Restorable, RestoreRequest, RestoreTarget},
    },
};

use super::{Outcome, export::no_form};
use crate::{
    args::{ExistingChoice, ExtrasChoice, Restore},
    context::{Context, Loaded},
    failure::Failure,
    output,
};

/// The word that means the files of any snapshot rather than a source.
const FILES: &str = "files";

pub async fn restore(context: &Context, args: Restore) -> Outcome {
    let loaded = context.load()?;
    let of_files = args.source.as_str() == FILES;
    if !of_files && (!args.include.is_empty() || !args.exclude.is_empty() || args.no_verify) {
        return Err(Failure::usage("--include, --exclude and --no-verify go with `restore files` only"));
    }
    let choices = args.existing != ExistingChoice::Replace || args.extras != ExtrasChoice::Keep;
    if of_files && (choices || !args.only.is_empty() || !args.rename.is_empty()) {
        return Err(Failure::usage("`restore files` knows no --only, --rename, --existing and --extras; --include chooses"));
    }
    if let Some(path) = &args.from {
        if of_files {
            return Err(Failure::usage("name the source whose form the file has: `kaleem-dr restore configs --from FILE`"));
        }
        let source = loaded.source(&args.source)?;
        let form = source.staged().ok_or_else(|| no_form(&args.source))?;
        let point = form.open(path, &context.staged_work(&loaded)).await?;
        return point_of(context, &loaded, (&*source, &point, Vec::new()), args).await;
    }
    let repository = context.repository(&loaded).await?;
    // A shared lock: nobody may prune what we are reading.
    let lock = context.lock_to_read(&repository).await?;
    let result = if of_files {
        files(context, &loaded, &repository, args).await
    } else {
        source(context, &loaded, &repository, args).await
    };
    lock.release().await?;
    result
}

async fn source(context: &Context, loaded: &Loaded, repository: &Repository, args: Restore) -> Outcome {
    let source = loaded.source(&args.source)?;
    let choice = loaded.point(&args.point, args.allow_incomplete);
    let (point, notes) = open_point(repository, &args.source, &choice, &context.progress, &context.cancel).await?;
    point_of(context, loaded, (&*source, &point, notes), args).await
}

async fn point_of(
    context: &Context,
    loaded: &Loaded,
    (source, point, notes): (&dyn Restorable, &PointReader, Vec<String>),
    args: Restore,
) -> Outcome {
    let request = RestoreRequest {
        to: if args.in_place { RestoreTarget::InPlace } else { RestoreTarget::Beside(args.to) },
        only: args.only,
        rename: args.rename,
        existing: match args.existing {
            ExistingChoice::Replace => Existing::Replace,
            ExistingChoice::Merge => Existing::Merge,
        },
        extras: match args.extras {
            ExtrasChoice::Keep => Extras::Keep,
            ExtrasChoice::Remove => Extras::Remove,
        },
    };
    let plan = plan_restore(Restoring { source, point, notes, identity: &loaded.identity }, request).await?;
    if args.consent.dry_run {
        output::plan(&plan, point, context.global.json)?;
        return Ok(Exit::Done);
    }
    if plan.request.to == RestoreTarget::InPlace || plan.overwrites() {
        let question = format!("write over what is in {}?", plan.target);
        output::consent(args.consent, &question, &context.cancel, || output::plan(&plan, point, false)).await?;
    }
    output::notes(&plan.warnings);
    let report = source.restore(point, plan).await?;
    output::restored(&report, context.global.json)?;
    Ok(if report.is_done() { Exit::Done } else { Exit::NotVerified })
}

async fn files(context: &Context, loaded: &Loaded, repository: &Repository, args: Restore) -> Outcome {
    let target = match (args.to, args.in_place) {
        (Some(target), _) => target.into(),
        (None, true) => "/".into(),
        (None, false) => return Err(Failure::usage("say where to with --target DIRECTORY, or --in-place for the real paths")),
    };
    let snapshots = repository.snapshots().await?;
    let chosen = select(&snapshots, &args.point, &loaded.identity.scope)?;
    if args.in_place {
        loaded
            .identity
            .refuse_replacing_from(&chosen.id().short(), chosen.host())
            .map_err(|why| Failure::new(Exit::Refused, why))?;
    }
    let snapshot = repository.read(chosen).await?;
    let mut options = RestoreOptions {
        target,
        include: args.include,
        exclude: args.exclude,
        without_own_files: args.in_place,
        overwrite: args.in_place,
        verify: !args.no_verify,
        dry_run: true,
    };
    if args.in_place && !args.consent.dry_run {
        let plan = restore_files(&snapshot, &options, &context.progress, &context.cancel).await?;
        output::consent(args.consent, "write these files over those in place?", &context.cancel, || output::files(&plan, false))
            .await?;
    }
    options.dry_run = args.consent.dry_run;
    let report = restore_files(&snapshot, &options, &context.progress, &context.cancel).await?;
    if report.is_empty() {
        let of = snapshot.snapshot().source().map_or_else(String::new, |source| format!(" of source {source}"));
        let mut failure =
            Failure::new(Exit::Failed, format!("nothing in snapshot {}{of} is meant by that", snapshot.snapshot().id().short()));
        failure.advice = Some("`kaleem-dr snapshots` lists what there is; name one with --snapshot".into());
        return Err(failure);
    }
    output::files(&report, context.global.json)?;
    Ok(if report.problems.is_empty() { Exit::Done } else { Exit::Partial })
}
