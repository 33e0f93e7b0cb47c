package lua

// The statuses of each script, the first element of its reply: the names at the top of the
// file with the script's name in front.
const (
	AckAcked = 1

	AsideMoved = 1
	AsideRight = 2

	DeadLetterMoved = 1
	DeadLetterGone  = 2

	DeadRetryRetried = 1
	DeadRetryGone    = 2
	DeadRetryForeign = 3

	FenceFenced = 1

	FenceLiftLifted  = 1
	FenceLiftForeign = 2

	PreheatLoaded = 1
	PreheatExists = 2

	RebuildBuyersWritten = 1
	RebuildBuyersForeign = 2

	RebuildOpenOpened  = 1
	RebuildOpenForeign = 2

	ReleaseReleased = 1
	ReleaseNotReady = 2

	RemoveRemoved = 1
	RemoveAbsent  = 2
	RemoveBought  = 3

	ReserveDecided    = 1
	ReserveNotReady   = 2
	ReserveOverloaded = 3

	RestockRestocked = 1
	RestockRepeated  = 2
	RestockNotReady  = 3

	RunTold = 1

	SetStateSet      = 1
	SetStateNotReady = 2
)

// The letters with which reserve.lua answers each request.
const (
	LetterAccepted       = 'A'
	LetterReplayed       = 'R'
	LetterDuplicateOrder = 'D'
	LetterLimitReached   = 'L'
	LetterSoldOut        = 'S'
	LetterNotStarted     = 'N'
	LetterEnded          = 'E'
	LetterPaused         = 'P'
	LetterKeyReused      = 'K'
	LetterOverloaded     = 'O'
)
